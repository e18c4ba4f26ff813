"""What a process's environment should say before NumPy is imported: threads, and memory kept.

The toy's products are small: BLAS threads that wait for each other cost more than they give,
several times more on a busy machine. So the BLAS gets one, and `operations.threads` shares out what
is large enough. And glibc hands the memory of every larger array back to the system when it is
freed, and fetches it again, page by page, for the next; a step of the toy spends a third of its
time on that, which is saved by letting it keep what it has. Of these settings only the number of
BLAS threads can change results, in their last digits: it changes how products are split.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
OWN_THREADS = "SWITCH_NP_NUM_THREADS"
MOST = 4          # beyond that they would wait for the interpreter more than they compute
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2 ** 25), "MALLOC_TRIM_THRESHOLD_": str(2 ** 30)}


def missing(environment: Mapping[str, str] = os.environ, own_threads: int | None = None
            ) -> dict[str, str]:
    """Return what is to be added; what the environment says itself is left as it is.

    `own_threads` beside the BLAS's one; None: as many as there are cores, up to MOST.

    >>> sorted(missing({"OMP_NUM_THREADS": "2", "MALLOC_TRIM_THRESHOLD_": "0"}))
    ['MALLOC_MMAP_THRESHOLD_']
    """
    own = own_threads or min(cores(), MOST)
    said = any(name in environment for name in THREADS)
    threads = {} if said else dict.fromkeys(THREADS, "1") | {OWN_THREADS: str(own)}
    return {name: value for name, value in (threads | MEMORY).items() if name not in environment}


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
