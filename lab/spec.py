"""What a run is: a model, an optimizer and an ordered list of phases, as frozen dataclasses.

This is the only description of a run. It is written as canonical JSON (sorted keys, no spaces, the
shortest decimal of each float), read back strictly, and refused with one line that names the field
when it cannot be a run. What follows from a spec stands elsewhere: the learning-rate array in
`lab.schedule`, the order of the data in `lab.mixture`, the identity of a state in `lab.identity`.
"""

import dataclasses
import json
import math
import re
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from lab.errors import Refused, meant

T = TypeVar("T")

StageShape = Literal["warm", "hold", "linear", "cosine", "1-sqrt"]
Precision = Literal["float32", "bfloat16"]
OptimizerName = Literal["adamw", "muon"]
Parametrisation = Literal["standard", "mup"]
MAX_SEED = 2**32 - 1
DIGEST = re.compile(r"[0-9a-f]{64}")  # of an adopted checkpoint
LARGEST = sys.float_info.max
ORDER = re.compile(r"uniform|ascending|descending|folded:([2-9]|[1-9][0-9]{1,3})")
SCORE = re.compile(r"[a-z0-9][a-z0-9_-]*")
# Fields that came after states had been identified: canonical JSON leaves them out at their
# default, so that the identities of those states stay.
CAME_LATER = {"came_later": True}


def _require(holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise Refused(f"{field} = {value!r}: {allowed}")


def _one_of(literal: Any, name: str, value: object) -> None:
    allowed = typing.get_args(literal)
    _require(value in allowed, name, value, f"one of {', '.join(allowed)}")


def _finite(value: float) -> bool:
    return math.isfinite(value)


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only transformer: pre-norm, rotary positions, gated (SwiGLU) MLP.

    `width` is the residual width D, `mlp_width` the hidden width F of the MLP, `context` the
    window length in tokens, `vocabulary` the number of token ids. Under the parametrisation `mup`
    rates mean what they mean at `base_width`, a model of `base_heads` heads (0: of as many as
    this one): see `lab.parametrisation`.
    """

    width: int
    layers: int
    heads: int
    mlp_width: int
    context: int
    vocabulary: int = 256
    tied_embedding: bool = False
    parametrisation: Parametrisation = field(default="standard", metadata=CAME_LATER)
    base_width: int = field(default=0, metadata=CAME_LATER)
    base_heads: int = field(default=0, metadata=CAME_LATER)

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "mlp_width", "context", "vocabulary"):
            value = getattr(self, name)
            _require(value >= 1, f"model.{name}", value, "must be at least 1")
        _require(
            self.width % self.heads == 0,
            "model.heads",
            self.heads,
            f"must divide model.width = {self.width}",
        )
        _require(
            (self.width // self.heads) % 2 == 0,
            "model.heads",
            self.heads,
            f"must leave an even number of channels a head (model.width = {self.width})",
        )
        _one_of(Parametrisation, "model.parametrisation", self.parametrisation)
        if self.parametrisation == "standard":
            allowed = "the standard parametrisation has no base: set model.parametrisation=mup"
            _require(self.base_width == 0, "model.base_width", self.base_width, allowed)
            _require(self.base_heads == 0, "model.base_heads", self.base_heads, allowed)
            return
        allowed = "mup needs the width at which rates were tuned, at least 1"
        _require(self.base_width >= 1, "model.base_width", self.base_width, allowed)
        allowed = f"must divide model.base_width = {self.base_width}"
        heads = self.base_heads or self.heads
        divides = self.base_heads >= 0 and self.base_width % heads == 0
        _require(divides, "model.base_heads", heads if heads > 0 else self.base_heads, allowed)


@dataclass(frozen=True)
class OptimizerSpec:
    """AdamW (Loshchilov & Hutter, 1711.05101) behind a clip of the global gradient norm, or Muon.

    `muon` (Jordan et al., 2024) takes the matrices of the blocks, with `momentum`, and leaves
    embedding, head and gains to AdamW with Nesterov's look-ahead, at the same rate and decay.
    """

    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    name: OptimizerName = field(default="adamw", metadata=CAME_LATER)
    momentum: float = field(default=0.95, metadata=CAME_LATER)

    def __post_init__(self) -> None:
        _one_of(OptimizerName, "optimizer.name", self.name)
        for name in ("b1", "b2", "momentum"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"optimizer.{name}", value, "must be in [0, 1)")
        for name in ("eps", "clip_norm"):
            value = getattr(self, name)
            allowed = "must be positive and finite"
            _require(_finite(value) and value > 0, f"optimizer.{name}", value, allowed)
        value = self.weight_decay
        allowed = "must be finite and not negative"
        _require(_finite(value) and value >= 0, "optimizer.weight_decay", value, allowed)
        if self.name == "adamw":
            allowed = "AdamW has none (its first moment is b1): set optimizer.name=muon"
            _require(self.momentum == 0.95, "optimizer.momentum", self.momentum, allowed)


@dataclass(frozen=True)
class Stage:
    """A piece of a learning-rate schedule; it begins at the rate at which the last one ended.

    `tokens=None` means "the rest of the phase" and may stand once in a phase.
    """

    shape: StageShape
    tokens: int | None = None
    to_lr: float | None = None

    def __post_init__(self) -> None:
        _one_of(StageShape, "stage.shape", self.shape)
        if self.tokens is not None:
            _require(self.tokens >= 1, "stage.tokens", self.tokens, "must be at least 1, or null")
        if self.shape == "hold":
            _require(self.to_lr is None, "stage.to_lr", self.to_lr, "must be null in a hold stage")
        else:
            holds = self.to_lr is not None and _finite(self.to_lr) and self.to_lr >= 0
            allowed = f"a {self.shape} stage needs a finite rate, not negative"
            _require(holds, "stage.to_lr", self.to_lr, allowed)


def warm(tokens: int | None, to_lr: float) -> Stage:
    """A linear rise to `to_lr`. Rewarming is only another warm."""
    return Stage("warm", tokens, to_lr)


def hold(tokens: int | None = None) -> Stage:
    """The rate at which the last stage ended, held."""
    return Stage("hold", tokens)


def decay(tokens: int | None, to_lr: float, shape: StageShape = "linear") -> Stage:
    """A fall to `to_lr`: linear, cosine, or 1-sqrt (eta0 (1 - sqrt r) + eta_T sqrt r)."""
    return Stage(shape, tokens, to_lr)


@dataclass(frozen=True)
class Share:
    """The weight of one corpus in a mixture, 0 and 1 included."""

    corpus: str
    weight: float

    def __post_init__(self) -> None:
        holds = _finite(self.weight) and 0 <= self.weight <= 1
        _require(holds, f"share of {self.corpus!r}", self.weight, "must be in [0, 1]")
        _require(self.corpus != "", "share.corpus", self.corpus, "must name a corpus")


@dataclass(frozen=True)
class Phase:
    """A stretch of training on one mixture under one schedule. Durations are in tokens.

    `name` is for people (axes, tables); it is no part of a state's identity. Corpora in `reread`
    are read from their beginning again (literal replay: the very windows of the phases before),
    all others from where the run has come to in them (unseen replay). `order` is that of the
    windows it reads of each corpus, by a `score` of their documents (`lab.order`): `uniform` (by
    none), `ascending` (the best last), `descending`, or `folded:k`, k times ascending.
    """

    name: str
    tokens: int
    mixture: tuple[Share, ...]
    schedule: tuple[Stage, ...]
    reset_optimizer: bool = False
    reread: tuple[str, ...] = field(default=(), metadata=CAME_LATER)
    order: str = field(default="uniform", metadata=CAME_LATER)
    score: str = field(default="truth", metadata=CAME_LATER)

    def __post_init__(self) -> None:
        where = f"phase {self.name!r}"
        _require(self.name.isidentifier(), "phase.name", self.name, "must be an identifier")
        _require(self.tokens >= 1, f"{where}: tokens", self.tokens, "must be at least 1")
        _require(len(self.mixture) > 0, f"{where}: mixture", [], "needs a corpus")
        names = [share.corpus for share in self.mixture]
        _require(len(set(names)) == len(names), f"{where}: mixture", names, "names a corpus twice")
        known = len(set(self.reread)) == len(self.reread) and set(self.reread) <= set(names)
        allowed = f"each once, of the mixture's {', '.join(names)}"
        _require(known, f"{where}: reread", list(self.reread), allowed)
        total = math.fsum(share.weight for share in self.mixture)
        _require(abs(total - 1) < 1e-9, f"{where}: mixture weights sum to", total, "must sum to 1")
        open_ended = [stage for stage in self.schedule if stage.tokens is None]
        fixed = sum(stage.tokens for stage in self.schedule if stage.tokens is not None)
        allowed = "uniform, ascending, descending, or folded:k for k in 2..9999"
        _require(bool(ORDER.fullmatch(self.order)), f"{where}: order", self.order, allowed)
        allowed = "must name a score: small letters, digits, - and _"
        _require(bool(SCORE.fullmatch(self.score)), f"{where}: score", self.score, allowed)
        label = f"{where}: schedule"
        _require(len(open_ended) <= 1, label, "tokens null", "only one stage may take the rest")
        if open_ended:
            allowed = f"must leave tokens of the phase's {self.tokens} for the open stage"
            _require(fixed < self.tokens, f"{label} tokens", fixed, allowed)
        else:
            allowed = f"must sum to the phase's {self.tokens}"
            _require(fixed == self.tokens, f"{label} tokens", fixed, allowed)

    def stage_tokens(self) -> list[int]:
        """Tokens of each stage, the open one filled in."""
        rest = self.tokens - sum(stage.tokens or 0 for stage in self.schedule)
        return [stage.tokens if stage.tokens is not None else rest for stage in self.schedule]


@dataclass(frozen=True)
class Shape:
    """What decides on the compiled programs: runs of one shape share them."""

    model: ModelSpec
    batch: int
    precision: Precision = "float32"
    optimizer: OptimizerName = "adamw"


@dataclass(frozen=True)
class RunSpec:
    """One training run. `seed` draws the initial weights and the order of the data.

    `precision` is that of products and activations; weights, moments, norms, softmax and loss are
    float32 in any case. `start` is the digest of an adopted checkpoint (`lab.adopt`), whose state
    is this run's step 0; `seed` then draws the order of the data alone.
    """

    model: ModelSpec
    optimizer: OptimizerSpec
    phases: tuple[Phase, ...]
    seed: int
    batch: int
    precision: Precision = field(default="float32", metadata=CAME_LATER)
    start: str = field(default="", metadata=CAME_LATER)

    def __post_init__(self) -> None:
        _one_of(Precision, "precision", self.precision)
        allowed = "must be the digest that lab adopt printed (64 hexadecimal digits), or empty"
        _require(
            self.start == "" or bool(DIGEST.fullmatch(self.start)), "start", self.start, allowed
        )
        if self.model.parametrisation == "mup":
            # an orthogonal update has a scale of its own: Table 8 of 2203.03466 does not say which
            allowed = "model.parametrisation=mup has rates for adamw only"
            _require(self.optimizer.name == "adamw", "optimizer.name", self.optimizer.name, allowed)
        _require(0 <= self.seed <= MAX_SEED, "seed", self.seed, f"must be in 0..{MAX_SEED}")
        _require(self.batch >= 1, "batch", self.batch, "must be at least 1 window a step")
        _require(len(self.phases) > 0, "phases", [], "needs at least one phase")
        names = [phase.name for phase in self.phases]
        _require(len(set(names)) == len(names), "phases", names, "names must differ")
        for phase in self.phases:
            self.steps_in(phase.tokens, f"phase {phase.name!r}: tokens")
            for stage, tokens in zip(phase.schedule, phase.stage_tokens(), strict=True):
                self.steps_in(tokens, f"phase {phase.name!r}: {stage.shape} stage tokens")

    @property
    def shape(self) -> Shape:
        return Shape(self.model, self.batch, self.precision, self.optimizer.name)

    @property
    def tokens_per_step(self) -> int:
        return self.batch * self.model.context

    @property
    def steps(self) -> int:
        return sum(self.phase_steps())

    def steps_in(self, tokens: int, field: str = "tokens") -> int:
        """Steps that `tokens` make: the one place where tokens become steps. Raises Refused."""
        steps, odd = divmod(tokens, self.tokens_per_step)
        if odd:
            step = self.tokens_per_step
            near = f"{steps * step} or {(steps + 1) * step}"
            raise Refused(f"{field} = {tokens}: must be whole steps of {step} tokens ({near})")
        return steps

    def phase_steps(self) -> list[int]:
        """Steps of each phase, in order."""
        return [self.steps_in(phase.tokens) for phase in self.phases]

    def phase_start(self, name: str) -> int:
        """First step of the phase called `name`. Raises Refused."""
        start = 0
        for phase, steps in zip(self.phases, self.phase_steps(), strict=True):
            if phase.name == name:
                return start
            start += steps
        known = ", ".join(phase.name for phase in self.phases)
        raise Refused(f"no phase {name!r}; this run has {known}")

    def phase_of(self, step: int) -> tuple[Phase, int]:
        """The phase that made the state at `step`, and the step within it (step 0: the first)."""
        start = 0
        for phase, steps in zip(self.phases, self.phase_steps(), strict=True):
            if step <= start + steps:
                return phase, step - start
            start += steps
        raise Refused(f"step {step} lies behind the run's end at {start}")

    def corpora(self) -> list[str]:
        """Names of the corpora that this run reads, in order of first use."""
        shares = [share for phase in self.phases for share in phase.mixture if share.weight > 0]
        return list(dict.fromkeys(share.corpus for share in shares))


_WRITER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: Any) -> str:
    """Canonical JSON of a dataclass or plain value. Raises Refused on what has no such form."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Read once more, so that 0 and 0.0 in a float field, or a list for a tuple, write alike.
        kind = type(value)
        value = _as_written(read(kind, dataclasses.asdict(value), kind.__name__))
    try:
        return _WRITER.encode(value)
    except (TypeError, ValueError) as error:
        raise Refused(f"cannot be written canonically: {error}") from None


def _as_written(value: Any) -> Any:
    """A dataclass as JSON data, without what came later and is at its default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            one.name: _as_written(getattr(value, one.name))
            for one in dataclasses.fields(value)
            if not (one.metadata.get("came_later") and getattr(value, one.name) == one.default)
        }
    return [_as_written(one) for one in value] if isinstance(value, tuple) else value


def from_json(cls: type[T], text: str) -> T:
    """Read a dataclass back; unknown keys, wrong types and impossible values are refused."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from None
    return read(cls, value, cls.__name__)


def read(kind: Any, value: Any, where: str) -> Any:
    """`value` (plain JSON) as `kind`, strictly. `where` names the field in the refusal."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if origin is tuple:
        item, *_ = typing.get_args(kind)
        if not isinstance(value, list | tuple):
            raise Refused(f"{where} = {value!r}: must be a list")
        return tuple(read(item, one, f"{where}[{k}]") for k, one in enumerate(value))
    if origin is Literal:
        allowed = typing.get_args(kind)
        _require(value in allowed, where, value, f"one of {', '.join(map(str, allowed))}")
        return value
    if origin is types.UnionType:
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        return read(next(o for o in options if o is not type(None)), value, where)
    return _read_plain(kind, value, where)


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise Refused(f"{where} = {value!r}: must be an object with the fields of {kind.__name__}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in value:
        if key not in fields:
            hint = meant(key, fields)
            raise Refused(f"{where}: unknown key {key!r}; the keys are {', '.join(fields)}{hint}")
    for name, one in fields.items():
        if name not in value and one.default is dataclasses.MISSING:
            raise Refused(f"{where}: key {name!r} is missing")
    return kind(**{key: read(hints[key], one, f"{where}.{key}") for key, one in value.items()})


def _read_plain(kind: type, value: Any, where: str) -> Any:
    # bool is an int to Python, and 3 is a legal float to a person: neither is left to chance.
    checks: dict[type, tuple[Callable[[Any], bool], str]] = {
        bool: (lambda v: isinstance(v, bool), "must be true or false"),
        int: (lambda v: isinstance(v, int) and not isinstance(v, bool), "must be a whole number"),
        float: (
            lambda v: isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= LARGEST,
            "must be a finite number",
        ),
        str: (lambda v: isinstance(v, str), "must be a text"),
    }
    holds, allowed = checks[kind]
    _require(holds(value), where, value, allowed)
    return float(value) + 0.0 if kind is float else kind(value)  # -0.0 is written as 0.0
