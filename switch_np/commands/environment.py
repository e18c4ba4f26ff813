"""What a process's environment should say before NumPy is imported: one BLAS thread, memory kept.

The toy's products are small: threads that wait for each other cost more than they give, several
times more on a busy machine. And glibc hands the memory of every larger array back to the system
when it is freed, and fetches it again, page by page, for the next; a step of the toy spends a third
of its time on that, which is saved by letting it keep what it has. No number depends on either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2 ** 25), "MALLOC_TRIM_THRESHOLD_": str(2 ** 30)}


def missing(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what is to be added; what the environment says itself is left as it is.

    >>> sorted(missing({"OMP_NUM_THREADS": "2", "MALLOC_TRIM_THRESHOLD_": "0"}))
    ['MALLOC_MMAP_THRESHOLD_']
    """
    threads = {} if any(name in environment for name in THREADS) else dict.fromkeys(THREADS, "1")
    return {name: value for name, value in (threads | MEMORY).items() if name not in environment}
