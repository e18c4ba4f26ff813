"""The tables as Markdown, for the eye and for a README; and on what machine they were made."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.settings import CORES

LIBRARIES = ("numpy", "torch", "jax", "transformers")


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a table of words; numbers in three digits.

    >>> print(markdown([{"case": "small", "to_bare": 1.2345},
    ...                 {"case": "large", "note": "left out"}]))
    | case  | to_bare | note     |
    |-------|---------|----------|
    | small | 1.23    |          |
    | large |         | left out |
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([word(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    drawn = ["| " + " | ".join(entry.ljust(width) for entry, width in zip(line, widths)) + " |"
             for line in lines]
    return "\n".join([drawn[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|",
                      *drawn[1:]])


def word(value: Any) -> str:
    """Return a number in three digits, whatever else as it is.

    >>> word(1234.5), word(0.00123456), word(2.0), word(float("nan"))
    ('1,234', '0.00123', '2.00', '')
    """
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return ""
    if abs(value) >= 1000 or value == 0:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(digits, 0)}f}"


def machine() -> list[dict[str, str]]:
    """Return what the numbers depend on: processor, cores, versions."""
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    found = {"processor": processor(), "cores": str(CORES), "system": platform.system(),
             "python": platform.python_version(), "blas": f"{blas['name']} {blas['version']}"}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return [{"what": what, "is": value} for what, value in found.items()]


def processor() -> str:
    """Return the processor's name, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
