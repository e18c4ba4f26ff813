"""How many threads a process computes with: three settings, said before NumPy is imported."""

from __future__ import annotations

from switch_np.commands import environment

CORES = environment.cores()
POOL = environment.OWN_THREADS

# Threads of the BLAS, threads of our own pool.
SETTINGS = {"pool": (1, CORES), "blas": (CORES, 1), "one": (1, 1)}
WORDS = {"pool": "our own threads", "blas": "the BLAS's threads", "one": "one thread"}


def variables(setting: str) -> dict[str, str]:
    """Return the environment of a process that computes in this setting.

    >>> found = variables("one")
    >>> found["OPENBLAS_NUM_THREADS"], found["SWITCH_NP_NUM_THREADS"]
    ('1', '1')
    """
    blas, pool = SETTINGS[setting]
    return {**dict.fromkeys(environment.THREADS, str(blas)), **environment.MEMORY, POOL: str(pool)}
