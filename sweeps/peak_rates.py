"""The rule by which studies take the peak rate of a width, where they do not tune it."""

from dataclasses import dataclass

WIDTH, TOKENS = 24, 1_000_000  # where a rule's `rate` holds


@dataclass(frozen=True)
class PeakRule:
    """Peak rate of AdamW in the standard parametrisation: a power of width and of tokens.

    rate: at WIDTH and TOKENS; width_power, tokens_power: by which it falls with either.
    """

    rate: float
    width_power: float
    tokens_power: float

    def peak_lr(self, width: int, tokens: float) -> float:
        """The rate, to two figures; tokens: of the whole training, cool-down and all."""
        falls = (WIDTH / width) ** self.width_power * (TOKENS / tokens) ** self.tokens_power
        return float(f"{self.rate * falls:.2g}")

    def __str__(self) -> str:
        text = f"{self.rate:g} ({WIDTH} / width)^{self.width_power:g}"
        if self.tokens_power:
            text += f" ({TOKENS / 1e6:g} M / tokens)^{self.tokens_power:g}"
        return text


# Of a probe: the best of five rates at widths 24, 40 and 64 and 262,144 tokens. It stands wherever
# the study `lr_transfer` was not run.
PROBED = PeakRule(0.2 / WIDTH, 1.0, 0.0)
# Rounded from the table `law` of that study: widths 12 to 48 at .46 and 1.8 M tokens and width 96
# at .46 M, batch 32 x 64; powers 1.29 (1.12 .. 1.45) and .34 (.20 .. .47), rate .0124.
MEASURED = {"tiny": PeakRule(0.012, 1.3, 0.34)}


def peak_rule(scale: str) -> PeakRule:
    """The rule of a scale: measured by `lr_transfer` there, or the probe's.

    The claim `rule` of that study asks what the rule costs beside the best rate of each width and
    length. Under muP a rate is that of the base width.
    """
    return MEASURED.get(scale, PROBED)
