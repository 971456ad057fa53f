"""`lab work`, disturbed as its environment says: what engines start in tests."""

import sys

from sweeps.cli import main
from tests.sweeps.processes import DISTURBED

if __name__ == "__main__":
    exec(DISTURBED)  # the text of a study file that runs in the worker's place
    sys.exit(main(["work", *sys.argv[1:]]))
