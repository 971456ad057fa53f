"""Prints the commands of README.md, for CI: long ones at the smallest scale."""

import pathlib
import re

text = pathlib.Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
    block = re.sub(r"\blab run cmr\b(?! --scale)", "lab run cmr --scale smoke", block)
    block = block.replace("runs/cmr-tiny", "runs/cmr-smoke")
    block = block.replace("step_in_phase == 480", "step_in_phase == 48")  # the last of smoke
    print(block.replace("\\\n", " "), end="")
