"""A kernel's tensors in float64 and in the right shape, and what is wrong with the others."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from switch_np.operations import adapters
from switch_np.oracle.explain import wording
from switch_np.oracle.judge.tensor import tensor_verdict
from switch_np.oracle.truth.reference import Reference
from switch_np.oracle.truth.solution import LOSSES, ROWS


def by_name(ref: Reference, y: Any, balance_loss: Any, z_loss: Any,
            grads: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what was given, under the names of `Reference.outputs`.

    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw, reference
    >>> ref = reference(**draw(SwitchConfig(num_experts=2), 8, d_model=4, d_ff=6))
    >>> sorted(by_name(ref, ref.y, None, 1.0, {"x": None}))
    ['d_x', 'y', 'z_loss']
    """
    grads = {} if grads is None else grads
    if not isinstance(grads, Mapping):
        raise TypeError("grads must be a dict of arrays, named as ref.grads are, got "
                        f"{type(grads).__name__}")
    unknown = set(grads) - set(ref.grads)
    if unknown:
        raise ValueError(f"grads must have keys among {sorted(ref.grads)}, got {sorted(unknown)}")
    given = {"y": y, "balance_loss": balance_loss, "z_loss": z_loss}
    for name in LOSSES:
        if given[name] is not None and getattr(ref, name) is None:
            raise ValueError(f"{name} must not be given for {ref.problem.alone} alone, whose "
                             "router is not known")
    return {name: value for name, value in given.items() if value is not None} | {
        f"d_{name}": value for name, value in grads.items()}


def collect(ref: Reference, given: Mapping[str, Any], complete: bool,
            notes: list[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the tensors to judge, and what is wrong with the others; add to the notes."""
    got, wrong = {}, []
    for name, want in ref.outputs().items():
        if name not in given:
            if complete and name not in LOSSES:
                wrong.append(f"{name} is missing")
            continue
        value = _filled(name, given[name], want, wrong, notes)
        if value is None:
            continue
        array = adapters.lift(value, name)
        same_rows = name in ROWS and (
            array.shape[-1:] == want.shape[-1:] or (name == "d_gates" and array.ndim == 1))
        if array.shape != want.shape and (
                array.size != want.size or not (same_rows or want.size == 1)):
            turned = array.shape[:-2] + array.shape[-2:][::-1] == want.shape
            wrong.append(f"{name} has shape {array.shape}, want {want.shape}"
                         + ": transposed" * turned)
            continue
        got[name] = array = array.reshape(want.shape)
        finite = np.isfinite(array)
        if not finite.all():
            kind = "NaN" if np.isnan(array).any() else "infinity"
            verdict = tensor_verdict(name, np.where(finite, want, np.inf), want,
                                     np.ones(want.shape), ref)
            only = f", only {wording.listed(verdict.blocks, ref)}" if verdict.blocks else ""
            wrong.append(f"{name} has {np.count_nonzero(~finite)} of {array.size} entries not "
                         f"finite ({kind}), first at {list(verdict.at)}{verdict.where}{only}")
    return got, wrong


def _filled(name: str, value: Any, want: np.ndarray, wrong: list[str], notes: list[str]) -> Any:
    """Return the value, with zeros where None means a zero gradient; None where it must not."""
    if value is None:
        if want.any():
            wrong.append(f"{name} is None: no gradient reaches it")
            return None
        notes.append(f"{name} is None, and its gradient is zero")
        return np.zeros(want.shape)
    if isinstance(value, (list, tuple)) and any(part is None for part in value):
        lost = [i for i, part in enumerate(value) if part is None]
        reached = [i for i in lost if i >= len(want) or want[i].any()]
        if reached:
            wrong.append(f"{name} is None for expert {', '.join(map(str, reached))}")
            return None
        notes.append(f"{name} is None for expert {', '.join(map(str, lost))}, whose gradient is 0")
        return [np.zeros(want.shape[1:]) if part is None else part for part in value]
    return value
