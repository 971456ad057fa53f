"""Prints the commands of README.md and the pages, each once, for CI: long ones at scale smoke."""

import pathlib
import re

root = pathlib.Path(__file__).parents[1]
told: dict[str, None] = {}  # in order; a command that stands in two places is run once
for page in (root / "README.md", *sorted(root.glob("notebooks/pages/*.md"))):
    if page.name == "adding.md":  # tests/sweeps/test_adding_page.py runs it, in a folder of its own
        continue
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        block = re.sub(r"\blab run cmr\b(?! --scale)", "lab run cmr --scale smoke", block)
        block = block.replace("runs/cmr-tiny", "runs/cmr-smoke")
        block = block.replace("step_in_phase == 480", "step_in_phase == 48")  # the last of smoke
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s{2,}#.*", "", line).strip()
            told.setdefault(command)
print("\n".join(told))
