"""What a correct layer gives: every number in float64, and how far a correct kernel may be from it.

In reading order:

alone            the experts, a grouped product, dispatch or combine in a layer's place
solution         a problem, and all the numbers that answer it
decisions        another library's choices of experts as a plan
asked            the arguments, checked and lifted to float64
caches           the intermediates that the oracle reads in a layer's cache
ranks            what each rank of a layer cut over ranks sends, gets, computes and returns
reference        outputs, losses and every gradient in float64, term by term
parts            the same for the parts below the experts
rounding_array   arrays whose arithmetic rounds at random, as a kernel's does
weights          a transformers layer's parameters under our names and in our layouts
rounding         the standard deviation of each number's rounding error: sigma

Imported by the oracle's other rooms; it imports none of them.
"""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """Import `ranks`, and the layer over ranks with it, when it is first asked for."""
    if name != "ranks":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
