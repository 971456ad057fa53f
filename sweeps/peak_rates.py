"""The rule by which studies take the peak rate of a width, where they do not tune it."""

RULE = ".2 / width"


def peak_lr(width: int) -> float:
    """Peak rate of AdamW in the standard parametrisation, by `RULE`.

    It comes from a probe: the best of five rates tried at widths 24, 40 and 64, the sizes of `cmr`
    at tiny. The study `lr_transfer` tests it: its claim `rule` asks what the rule costs beside the
    best rate of each width, at one length of training. At tiny the claim was refuted: the rule
    costs .058 nats at the worst width (`notebooks/results`). Under muP a rate is that of the base
    width, so there it is `peak_lr(base_width)` at every width.
    """
    return 0.2 / width
