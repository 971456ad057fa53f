"""What width does to initial weights, multipliers and rates: standard, or maximal updates (muP).

muP (Yang et al., 2203.03466, Table 8, for optimizers such as Adam) keeps activations, and how far
a step moves them, of one size as a model grows in width, so that a rate tuned at a base width D0
holds at D. With m = D / D0:

                        initial variance   multiplier       rate
    embedding, gains    as at D0           1                1
    hidden matrices     1 / fan-in         1                1 / m
    head                as at D0           1 / m            1
    query times key     -                  sqrt(K0) / K     -

K is the number of channels a head, K0 that at the base; where heads grow in number and not in size
this is the standard 1 / sqrt(K). At m = 1 everything is the standard parametrisation, number for
number. The MLP and the depth are taken to be the base's: F / D and the number of layers constant.

Weight decay stands outside of the rate multiplier: a step takes off rate x decay of every matrix,
whatever its m (the field's AdamW multiplies decay by the group's own rate, so its users scale decay
by m: `scaled_wd` of microsoft/mup, which comes to the same). Adam's eps is not scaled: it must stay
far below the gradient's root mean square, which falls with width. The global norm's clip acts
before Adam, which does not feel a factor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.spec import ModelSpec

HIDDEN = ("qkv_D3D", "out_DD", "gate_DF", "up_DF", "down_FD")  # matrices with both sides a width


@dataclass(frozen=True)
class Scales:
    """Factors of one model's shape.

    attention: of a query's product with a key. head: square root of (fan-in times variance) of the
    head's initial weights. logits: of the logits, beside the embedding's own of a tied head. rates:
    of a step's learning rate, by the name of the leaf; 1 for those that are not named.
    """

    attention: float
    head: float
    logits: float = 1.0
    rates: Mapping[str, float] = field(default_factory=dict)


def scales(model: ModelSpec) -> Scales:
    """The factors that a model's parametrisation asks for."""
    channels = model.width // model.heads
    if model.parametrisation == "standard":
        # Logits start near 0, the loss near ln V.
        return Scales(attention=channels**-0.5, head=model.width**-0.5)
    base_channels = model.base_width // (model.base_heads or model.heads)
    wider = model.width / model.base_width
    return Scales(
        attention=channels**-0.5 * (base_channels / channels) ** 0.5,
        head=model.base_width**-0.5 * wider**0.5,
        logits=1 / wider,
        rates=dict.fromkeys(HIDDEN, 1 / wider),
    )
