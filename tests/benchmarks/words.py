"""The words of the picture: what a subject is called, and what a comparison found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.peers import EAGER, NO_PEERS, OURS
from benchmarks.settings import WORDS


def label(row: Mapping[str, Any]) -> str:
    """Return what a row's subject is called.

    >>> label({"subject": "PyTorch eager", "setting": "one"})
    'PyTorch eager (one thread)'
    >>> label({"subject": "JAX compiled", "setting": "blas"})
    'JAX compiled'
    """
    if row["subject"] not in NO_PEERS and row["setting"] != "one":
        return row["subject"]
    return f"{row['subject']} ({WORDS[row['setting']]})"


def comparison(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say how far we are from the limit, and from PyTorch eager, with all cores.

    >>> comparison([{"subject": "switch_np", "setting": "pool", "to_bare": 1.2},
    ...             {"subject": "PyTorch eager", "setting": "blas", "to_ours": 1.3}])
    'switch_np 1.20 times its bare products;\\nPyTorch eager 1.30 times switch_np'
    """
    ours = [row["to_bare"] for row in rows if row["subject"] == OURS and row["setting"] == "pool"]
    eager = [row["to_ours"] for row in rows if row["subject"] == EAGER and row["setting"] == "blas"]
    said = [f"switch_np {span(ours)} times its bare products"] if ours else []
    return ";\n".join(said + ([f"{EAGER} {span(eager)} times switch_np"] if eager else []))


def span(values: Sequence[float]) -> str:
    """Return the range of some numbers.

    >>> span([1.5, 1.0]), span([2.0])
    ('1.00 to 1.50', '2.00')
    """
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
