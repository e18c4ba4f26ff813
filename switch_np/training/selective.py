"""Selective precision: the router computes in float32, all else in bfloat16.

Source: section 2.4 of the paper. The router's input is cast to float32; its softmax and the gates
are computed in float32, on the token's own machine; what leaves it is cast back to bfloat16, so
that whatever an all-to-all carries, tokens, experts' outputs and their gradients, is bfloat16.

A parameter says in which precision it computes: `stored` rounds all of them, and leaves the
router's as they are where the mode says so. The layer then casts at the router's two doors: x to
the precision of `w_router`, the gates (and, backwards, the router's d_x) to that of x. With plain
arrays both casts are nothing.

The arrays handed in are the master weights, float32, and stay so: an optimizer adds to them what
bfloat16 would often be too coarse to hold. So do the authors (mesh_tensorflow's `slice_dtype`
"must be float32 for training").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from switch_np.operations import check, rounded, tree

# What the parameters are rounded to; the router's; None: left as they are.
MODES: dict[str, tuple[str | None, str | None]] = {
    "float64": (None, None),
    "float32": (None, None),
    "bfloat16": ("bfloat16", "bfloat16"),
    "selective": ("bfloat16", None),
    "float16": ("float16", "float16"),
}
ROUTER = ("w_router", "b_router")


def stored(params: Mapping[str, Any], mode: str) -> dict[str, Any]:
    """Return the parameters of a layer or a model as a mode computes with them.

    Parameters
    ----------
    params
        Arrays, or nested dicts of them; not written to.
    mode
        "float32", "float64": as they are. "bfloat16", "float16": all rounded, and with them all
        that is computed. "selective": bfloat16, but for the router.

    Examples
    --------
    >>> import numpy as np
    >>> params = {"w_router": np.array([[1.001]]), "w_in": np.array([[[1.001]]])}
    >>> {name: value.item() for name, value in stored(params, "selective").items()}
    {'w_router': 1.001, 'w_in': 1.0}
    """
    check.choice("mode", mode, list(MODES))
    most, router = MODES[mode]
    flat = {}
    for name, value in tree.flatten(params).items():
        precision = router if name.split(".")[-1] in ROUTER else most
        flat[name] = value if precision is None else rounded.enter(value, precision)
    return tree.unflatten(flat)


def gradients(grads: Mapping[str, Any]) -> dict[str, Any]:
    """Return gradients as plain arrays, for the optimizer and its float32 moments."""
    plain: dict[str, Any] = tree.apply(rounded.plain, grads)
    return plain
