"""Selective precision: the router computes in float32, all else in bfloat16.

Source: section 2.4 of the paper. The router's input is cast to float32; its softmax and gates are
computed in float32, on the token's own machine, and cast back to bfloat16. So what an all-to-all
carries (tokens, the experts' outputs, and the gradients of both) is bfloat16.

The precision of the parameters decides: the layer casts x to that of `w_router`, and the gates (in
the backward pass, the router's d_x) to that of x. The master weights stay float32, as in
mesh_tensorflow (whose `slice_dtype` "must be float32 for training"): an update is often too small
for bfloat16.
"""

from collections.abc import Mapping
from typing import Any

from switch_np.conventions.parameters import in_precision
from switch_np.operations import check, rounded, tree
from switch_np.operations.precision import WIDTH

# The precision of the router's parameters comes second; None: leave as they are.
MODES: dict[str, tuple[str | None, str | None]] = {
    "float64": (None, None), "float32": (None, None), "bfloat16": ("bfloat16", "bfloat16"),
    "selective": ("bfloat16", None), "float16": ("float16", "float16")}


def stored(params: Mapping[str, Any], mode: str) -> dict[str, Any]:
    """Return a tree of parameters as they compute in this mode; rounded ones round all results.

    >>> import numpy as np
    >>> stored({"w_in": np.array([[[1.001]]])}, "selective")["w_in"].item()
    1.0
    """
    check.choice("mode", mode, list(MODES))
    if MODES[mode] == (None, None):
        return dict(params)
    return in_precision(params, *MODES[mode])


def width(mode: str) -> int:
    """Return the bytes of an activation in this mode.

    >>> width("selective"), width("float32")
    (2, 4)
    """
    return WIDTH[MODES[mode][0] or mode]


def gradients(grads: Mapping[str, Any]) -> dict[str, Any]:
    """Return gradients as plain arrays, for the optimizer and its float32 moments."""
    return dict(tree.apply(rounded.plain, grads))
