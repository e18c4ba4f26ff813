"""How much memory forward and backward take, as NumPy reports it to tracemalloc.

Counted is what a call adds to what was there before: to the parameters, x and d_y. A first call
comes before, so that what is made once is not counted. "Kept" are the bytes of the distinct arrays
that the cache holds, views counted as the arrays that they look into, without those handed in.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

import switch_np as snp
from benchmarks import cases
from switch_np.training import optimizer


def layer(**sizes: Any) -> dict[str, float]:
    """Return bytes of one layer.

    Returns
    -------
    dict
        params, grads (of parameters and x), moments (AdamW's); kept (in the cache), outputs (y and
        what else forward gives, without what the cache holds), row_array (one array of the rows);
        after_forward and peak (of forward and backward), over what was there before; and
        peak_without_y, where y is let go before backward, as a model does that has added it to its
        residual stream.

    Examples
    --------
    >>> found = layer(**cases.sizes(256, 8, 4))
    >>> found["row_array"] <= 256 * 8 * 4, found["kept"] <= found["after_forward"] <= found["peak"]
    (True, True)
    """
    case = cases.layer(**sizes)
    given = [case.x, case.d_y, *case.params.values()]
    cases.layer_step(case)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    out, cache = snp.switch_layer.forward(case.params, case.x, case.config, training=True)
    after, forward = tracemalloc.get_traced_memory()
    d_x, grads = snp.switch_layer.backward(case.d_y, cache, case.balance_coef)
    _, peak = tracemalloc.get_traced_memory()
    y, out = out.y.nbytes, out._replace(y=None)
    gradients = d_x.nbytes + sum(value.nbytes for value in grads.values())
    del d_x, grads
    tracemalloc.reset_peak()
    snp.switch_layer.backward(case.d_y, cache, case.balance_coef)
    _, without_y = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    params = sum(value.nbytes for value in case.params.values())
    rows = len(out.plan.token) * case.x.shape[1] * case.x.itemsize
    moments = held(optimizer.init(case.params), [])
    return {"params": params, "grads": gradients, "moments": moments,
            "kept": held(cache, given), "row_array": rows,
            "outputs": held((cache, out), given) - held(cache, given) + y,
            "after_forward": after - before, "peak": peak - before,
            "peak_without_y": max(forward, without_y) - before}


def held(value: Any, without: list[np.ndarray]) -> int:
    """Return the bytes of the distinct arrays inside a value, views taken back to their bases.

    >>> a = np.zeros((4, 2))
    >>> held({"one": a, "again": a[1:], "given": a[0]}, []), held((a,), [a])
    (64, 0)
    """
    found = {id(one): one.nbytes for one in map(base, arrays(value))}
    for one in map(base, without):
        found.pop(id(one), None)
    return sum(found.values())


def base(array: np.ndarray) -> np.ndarray:
    """Return the array that owns the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def arrays(value: Any) -> Iterator[np.ndarray]:
    """Yield the arrays inside dicts, tuples, lists and objects such as a plan."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Mapping):
        yield from arrays(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from arrays(one)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, ModuleType)):
        yield from arrays(vars(value))
