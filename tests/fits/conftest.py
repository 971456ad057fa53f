"""One BLAS thread, set before NumPy is there.

SciPy's L-BFGS-B calls LAPACK on tiny matrices; with OpenBLAS threads that wait for a busy core a
fit takes up to a hundred times as long (https://github.com/scipy/scipy/issues/22438).
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
