"""Parameters and training FLOPs of a model, counted from its spec; nothing is run.

Conventions: one multiply-add is two FLOPs, the backward pass costs twice the forward pass. With
attention and head left out this is the 6 N D of Kaplan et al. (2001.08361, section 2.1); attention
is counted in full, not its causal half, as in PaLM (2204.02311, appendix B: 12 L H Q T a token).
"""

from dataclasses import dataclass

from lab.spec import ModelSpec, RunSpec


@dataclass(frozen=True)
class Parameters:
    """Parameter counts by role."""

    embedding: int
    head: int
    matrices: int
    gains: int

    @property
    def total(self) -> int:
        return self.embedding + self.head + self.matrices + self.gains

    @property
    def non_embedding(self) -> int:
        """Without embedding and head, as Kaplan et al. count."""
        return self.matrices + self.gains


def parameters(model: ModelSpec) -> Parameters:
    """Parameters of a model, exactly as `lab.model` makes them."""
    attention = 4 * model.width**2
    mlp = 3 * model.width * model.mlp_width
    table = model.vocabulary * model.width
    return Parameters(
        embedding=table,
        head=0 if model.tied_embedding else table,
        matrices=model.layers * (attention + mlp),
        gains=(2 * model.layers + 1) * model.width,
    )


def train_flops_per_token(model: ModelSpec, attention: bool = True, head: bool = True) -> int:
    """FLOPs to train on one token (forward and backward)."""
    flops = 6 * parameters(model).matrices
    if head:
        flops += 6 * model.vocabulary * model.width
    if attention:
        flops += 12 * model.layers * model.width * model.context
    return flops


def train_flops(run: RunSpec, steps: int | None = None) -> int:
    """FLOPs of `steps` training steps of a run (all of them by default)."""
    steps = run.steps if steps is None else steps
    return steps * run.tokens_per_step * train_flops_per_token(run.model)
