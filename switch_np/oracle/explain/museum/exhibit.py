"""An exhibit of the museum: a bug, where it was seen, and the lines of the kernel it changes."""

from typing import NamedTuple

# Lines of `kernel.py` that exhibits of both kinds change.
SLOPE = "slope = balance_coef * num_experts / count * share"
D_CHOSEN = "np.put_along_axis(d_probs, expert, d_chosen, axis=1)"
D_Z = "d_logits[real] += z_coef * 2 / count * log_z[real, None] * softmax[real]"


class Exhibit(NamedTuple):
    """One bug: its name, what is wrong, and the library and thread where it was seen, if known.

    `changes` are pairs (right, wrong) of text; `kernel.py` has the right one exactly once.
    """

    name: str
    what: str
    seen: str
    changes: tuple[tuple[str, str], ...]


def in_words(what: str, seen: str) -> str:
    """Return a bug as a report names it.

    >>> in_words("y is zero", "aiter#5032"), in_words("y is zero", "no thread known; a typo")
    ('y is zero; seen: aiter#5032', 'y is zero; a typo')
    """
    return f"{what}; seen: {seen}".replace("; seen: no thread known", "")


def bug(name: str, what: str, seen: str, *changes: tuple[str, str]) -> Exhibit:
    """Return an exhibit."""
    return Exhibit(name, what, seen, changes)
