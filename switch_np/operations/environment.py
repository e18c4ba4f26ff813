"""Threads and memory: what must be set before NumPy is imported, and how much memory is free.

The toy models' products are small: BLAS threads that wait for each other cost more than they save,
several times more on a busy machine. So the BLAS gets one thread, and `operations.threads` divides
the work that is large enough. And glibc returns the memory of every larger array to the system when
it is freed, only to fetch it again, page by page, for the next; letting it keep the memory saves a
third of a toy step. Only the number of BLAS threads can change results, in their last digits, since
it changes how products are split.
"""

import os
from collections.abc import Mapping

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
OWN_THREADS = "SWITCH_NP_NUM_THREADS"
MOST = 4          # more threads would wait for the interpreter longer than they compute
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2 ** 25), "MALLOC_TRIM_THRESHOLD_": str(2 ** 30)}


def missing(environment: Mapping[str, str] = os.environ, own_threads: int | None = None
            ) -> dict[str, str]:
    """Return the variables to add; those already set stay as they are.

    `own_threads` are those of `operations.threads`; None: one per core, up to MOST.

    >>> sorted(missing({"OMP_NUM_THREADS": "2", "MALLOC_TRIM_THRESHOLD_": "0"}))
    ['MALLOC_MMAP_THRESHOLD_']
    """
    own = own_threads or min(cores(), MOST)
    threads = dict.fromkeys(THREADS, "1") | {OWN_THREADS: str(own)}
    if any(name in environment for name in THREADS):
        threads = {}
    return {name: value for name, value in (threads | MEMORY).items() if name not in environment}


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Return the bytes of memory that are free, or 8 GiB where the system does not say."""
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):
        return 8 * 2 ** 30


def check_memory(what: str, needed: int) -> None:
    """Refuse sizes, described by `what`, that need more bytes than are free."""
    if needed > (free := free_memory()):
        raise MemoryError(f"{what} must fit into memory: about {needed / 2 ** 30:,.1f} GiB are "
                          f"needed, {free / 2 ** 30:,.1f} are free")
