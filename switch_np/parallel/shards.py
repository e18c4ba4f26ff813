"""Which part of every array a rank holds: of parameters, gradients, moments, tokens and noise.

Experts are cut by expert and by d_ff, as `mesh` says; all else is whole on every rank. Tokens, and
what there is per token, are cut into n consecutive parts: the groups of one process in order.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from switch_np.operations import rounded, tree
from switch_np.parallel import all_gather, all_reduce
from switch_np.parallel.communicator import Communicator
from switch_np.parallel.mesh import Mesh

WIDTH_AXIS = {"w_in": 2, "w_gate": 2, "w_out": 1}  # of d_ff; axis 0 are the experts
BIASES = ("b_in", "b_gate", "b_out")                # experts' alone have any; axis 1 is d_ff, or D


def _cuts(path: str, value: np.ndarray, mesh: Mesh) -> list[tuple[int, Communicator]]:
    """Return the axes along which an array is cut, and between whom; none if it is replicated."""
    *_, folder, name = "", *path.split(".")               # Adafactor's are such as w_in.row
    if name in BIASES:
        axes = [(0, mesh.experts)] + [(1, mesh.model)] * (name != "b_out")
        return [(axis, comm) for axis, comm in axes if comm.size > 1]
    weight = name if name in WIDTH_AXIS else folder
    if weight not in WIDTH_AXIS or value.ndim == 1 or (weight == name and value.ndim == 2):
        return []                                          # not an expert's; a dense network's
    cuts = [(0, mesh.experts)] + [(WIDTH_AXIS[weight], mesh.model)] * (value.ndim == 3)
    return [(axis, comm) for axis, comm in cuts if comm.size > 1]


def part(value: np.ndarray, comm: Communicator, axis: int = 0) -> np.ndarray:
    """Return this rank's part of an array that is cut evenly, a view.

    >>> part(np.arange(6), Communicator(rank=1, size=3)).tolist()
    [2, 3]
    """
    own, rest = divmod(value.shape[axis], comm.size)
    if rest:
        raise ValueError(f"what {comm.size} ranks share must be a multiple of {comm.size}, got "
                         f"{value.shape[axis]}, axis {axis} of shape {value.shape}")
    return value[(slice(None),) * axis + (slice(comm.rank * own, (comm.rank + 1) * own),)]


def parts(values: Any, comm: Communicator) -> Any:
    """Return this rank's part of each array in (nested) named tuples; None stays None."""
    if isinstance(values, np.ndarray):
        return part(values, comm)
    if isinstance(values, tuple):
        each = [parts(value, comm) for value in values]
        return type(values)(*each) if hasattr(values, "_fields") else tuple(each)
    return values


def cut(arrays: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Return this rank's part of a tree of parameters, or of anything shaped like them, copied."""
    flat = tree.flatten(arrays)
    for path, value in flat.items():
        for axis, comm in _cuts(path, value, mesh):
            value = part(value, comm, axis)
        flat[path] = value.copy()
    return tree.unflatten(flat)


def join(arrays: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Return the whole tree, on every rank: what `cut` took apart."""
    flat = tree.flatten(arrays)
    for path, value in flat.items():
        for axis, comm in reversed(_cuts(path, value, mesh)):
            moved = np.moveaxis(value, axis, 0)
            moved = all_gather.forward(moved, [len(moved)] * comm.size, comm, path)
            value = np.ascontiguousarray(np.moveaxis(moved, 0, axis))
        flat[path] = value
    return tree.unflatten(flat)


def reduce(grads: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Return the gradients of all tokens: those of replicated weights summed over the data ranks.

    They travel as one array of plain numbers. An expert that is not replicated has met all its
    tokens, whichever rank they came from: its gradients are whole.
    """
    flat = {path: rounded.plain(value) for path, value in tree.flatten(grads).items()}
    shared = replicated(flat, mesh)
    summed = all_reduce.forward(np.concatenate([flat[path].ravel() for path in shared]), mesh.data,
                                "gradients")
    for path in shared:
        mine, summed = summed[:flat[path].size], summed[flat[path].size:]
        flat[path] = mine.reshape(flat[path].shape)
    return tree.unflatten(flat)


def replicated(flat: Mapping[str, np.ndarray], mesh: Mesh) -> list[str]:
    """Return the paths of what all data ranks hold alike, so that its gradients are summed."""
    return [path for path, value in flat.items()
            if mesh.experts.size == 1 or not _cuts(path, value, mesh)]


def square_sum(grads: Mapping[str, Any], mesh: Mesh) -> float:
    """Return the sum of the squares of all gradients, each counted once; the same on every rank."""
    sums = {True: 0.0, False: 0.0}                         # of parts, and of whole arrays
    for path, value in tree.flatten(grads).items():
        comms = [comm for _, comm in _cuts(path, value, mesh)]
        if not (comms and mesh.model.rank) or mesh.model in comms:    # else in the row's first rank
            sums[bool(comms)] += float(np.vdot(value, value))
    of_row = all_reduce.forward(np.array(sums[True]), mesh.model, "squares")
    return sums[False] + float(all_reduce.forward(of_row, mesh.experts, "squares"))


def rms(value: np.ndarray, mesh: Mesh) -> float:
    """Return the root of the mean square of a whole array, of which `value` is this rank's part.

    Only arrays with three axes, the experts', are in parts.
    """
    comm = mesh.experts if value.ndim == 3 else Communicator()
    squares = all_reduce.forward(np.array(float(np.vdot(value, value))), comm, "squares")
    return math.sqrt(float(squares) / (value.size * comm.size))
