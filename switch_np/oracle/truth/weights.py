"""A transformers layer's parameters, or their gradients, under our names and in our layouts.

The layouts are data (`conventions.layouts`), one line per key. Arrays stay in their own library:
they are sliced, transposed and listed, never copied or converted.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from switch_np.conventions.families import FAMILIES
from switch_np.conventions.layouts import lines
from switch_np.operations import adapters, check

OURS = {"w_router": "D E", "w_in": "E D F", "w_gate": "E D F", "w_out": "E F D", "b_in": "E F",
        "b_gate": "E F", "b_out": "E D", "shared_w_in": "D S", "shared_w_gate": "D S",
        "shared_w_out": "S D", "shared_w_router": "D 1", "b_router": "E", "select_bias": "E",
        "shared_b_out": "D"}


class Line(NamedTuple):
    """One line of a layout, read: a key, its axes, and what it holds."""

    key: str
    axes: tuple[str, ...]
    ours: tuple[str, ...]
    woven: bool
    optional: bool


def weights(family: str, source: Any) -> dict[str, Any]:
    """Return a layer's parameters, or their gradients, as `reference` and `compare` take them.

    Parameters
    ----------
    family
        A folder of transformers' models, such as "qwen3_moe"; `presets()` lists them.
    source
        The layer, a module with `state_dict()`, or a dict of its parameters of any array library;
        or of their gradients, such as {name: p.grad for name, p in layer.named_parameters()}. It
        may be part of a larger dict, whose rest is ignored, or the experts alone.

    Returns
    -------
    dict
        `w_router` (D, E), `w_in`, `w_gate` (E, D, F), `w_out` (E, F, D) and the rest, of the same
        library; a list of E arrays where the experts are modules of their own. A gradient that is
        None stays None.

    Raises
    ------
    ValueError
        Where a parameter is missing or unknown, or its shape does not fit the others'.

    Examples
    --------
    >>> import numpy as np
    >>> theirs = {"gate.weight": np.ones((4, 6)), "experts.gate_up_proj": np.ones((4, 10, 6)),
    ...           "experts.down_proj": np.ones((4, 6, 5))}
    >>> {name: array.shape for name, array in weights("qwen3_moe", theirs).items()}
    {'w_router': (6, 4), 'w_gate': (4, 6, 5), 'w_in': (4, 6, 5), 'w_out': (4, 5, 6)}
    >>> weights("qwen3_moe", theirs | {"gate.weight": np.ones((6, 4))})
    Traceback (most recent call last):
    ValueError: gate.weight of source must have shape (E, D), got (6, 4): transposed
    """
    row = FAMILIES.get(family) if isinstance(family, str) else None
    if row is None or not row.weights:
        raise ValueError(f"family must be a folder of transformers' models, got {family!r}" + (
            f", {row.alone}: {row.line}" if row else check.nearest(family, FAMILIES)))
    state = source.state_dict() if callable(getattr(source, "state_dict", None)) else source
    check.instance("source", state, Mapping)
    found = _one_layer(family, {str(name): value for name, value in state.items()})
    sizes = _sizes(family, found)
    result: dict[str, Any] = {}
    for line, value in found:
        result |= zip(line.ours, _parts(line, value, sizes))
    return result


def _read(weights: str) -> tuple[list[Line], list[str]]:
    """Return the lines of a layout, and the prefixes of keys that belong to something else."""
    read, others = [], []
    for text, optional in lines(weights):
        match = re.fullmatch(r"(\S+) \((.+)\) = (\w+)(?:(, | / )(\w+))?", text)
        if match is None:
            others.append(text)
        else:
            key, axes, first, between, second = match.groups()
            ours = (first, second) if second else (first,)
            read.append(Line(key, tuple(axes.split(", ")), ours, between == " / ", optional))
    return read, others


def _one_layer(family: str, state: Mapping[str, Any]) -> list[tuple[Line, Any]]:
    """Return each line of the layout that the layer has, with its array or list of arrays."""
    row = FAMILIES[family]
    known, others = _read(row.weights)
    anchor = next(line.key for line in known if line.ours[-1] == "w_in").replace("{e}", "0")
    head, alone = _head(family, state, anchor)
    inside = {name[len(head):].removeprefix("block_sparse_moe."): value
              for name, value in state.items() if name.startswith(head)}
    if alone:
        inside = {f"experts.{name}": value for name, value in inside.items()}
    if alone or row.alone:
        known = [line for line in known if line.key.startswith("experts.")]
    found = []
    for line in known:
        keys = [line.key]
        if "{e}" in line.key:
            count = sum(re.fullmatch(re.escape(line.key).replace(r"\{e\}", r"\d+"), name)
                        is not None for name in inside)
            keys = [line.key.replace("{e}", str(e)) for e in range(max(count, 1))]
        missing = [key for key in keys if key not in inside]
        if missing and not (line.optional and len(missing) == len(keys)):
            raise ValueError(f"source must hold {head}{missing[0]} of {family}, got "
                             f"{', '.join(state)}" + check.nearest(missing[0], inside))
        if not missing:
            values = [inside.pop(key) for key in keys]
            found.append((line, values if "{e}" in line.key else values[0]))
    unknown = [name for name in inside if not any(map(name.startswith, others))]
    if unknown and not row.alone:
        raise ValueError(f"source must hold nothing but {', '.join(line.key for line in known)} of "
                         f"{family}, got {head}{unknown[0]}")
    return found


def _head(family: str, state: Mapping[str, Any], anchor: str) -> tuple[str, bool]:
    """Return the prefix of the layer's keys, and whether only its experts are there."""
    for key in (anchor, anchor.removeprefix("experts.")):
        heads = {name[:-len(key)] for name in state
                 if name == key or name.endswith(f".{key}")}
        if len(heads) > 1:
            raise ValueError(f"source must hold one layer of {family}, got those of "
                             f"{', '.join(sorted(heads))}")
        if heads:
            return heads.pop().removesuffix("block_sparse_moe."), key != anchor
    raise ValueError(f"source must hold {anchor} of {family}, got {', '.join(state) or 'none'}"
                     + check.nearest(anchor, state))


def _sizes(family: str, found: list[tuple[Line, Any]]) -> dict[str, int]:
    """Return E, D, F and S; refuse shapes that contradict each other."""
    shapes = {line: shape for line, value in found if (shape := _shape(line, value)) is not None}
    sizes = _bound(shapes)
    if sizes is not None:
        return sizes
    for line, shape in shapes.items():
        turned = (*shape[:-2], *shape[:-3:-1])
        if _bound({**shapes, line: turned}) is not None:
            raise ValueError(f"{line.key} of source must have shape ({', '.join(line.axes)}), "
                             f"got {shape}: transposed")
    raise ValueError(f"source must hold shapes of {family} that fit each other, got " + ", ".join(
        f"{line.key} ({', '.join(line.axes)}) {shape}" for line, shape in shapes.items()))


def _bound(shapes: Mapping[Line, tuple[int, ...]]) -> dict[str, int] | None:
    """Return the sizes of the axes; None if there are none that fit all shapes."""
    sizes: dict[str, float] = {"1": 1}
    for line, shape in sorted(shapes.items(), key=lambda item: "EF" in item[0].axes):
        if len(shape) != len(line.axes):
            return None
        for axis, length in zip(line.axes, shape):
            n: float = length
            if axis == "EF":
                axis, n = "F", n / sizes["E"]
            elif axis[0] == "2":
                axis, n = axis[1:], n / 2
            if n != int(n) or (axis != "E+" and sizes.setdefault(axis, n) != n):
                return None
    return {axis: int(n) for axis, n in sizes.items()}


def _shape(line: Line, value: Any) -> tuple[int, ...] | None:
    """Return an array's shape, that of the first one of a list; None for a gradient of None."""
    one = next((part for part in value if part is not None), None) if "{e}" in line.key else value
    return None if one is None else adapters.shape_of(one, line.key)


def _parts(line: Line, value: Any, sizes: Mapping[str, int]) -> list[Any]:
    """Return the contents of an array in our layout; of a list of arrays, lists."""
    if "{e}" in line.key:
        return [list(column) for column in zip(*(_parts(
            line._replace(key=""), one, sizes) for one in value))]
    if value is None:
        return [None] * len(line.ours)
    axes = list(line.axes)
    if axes[0] == "EF":
        value, axes = value.reshape(sizes["E"], -1, value.shape[-1]), ["E", "F", *axes[1:]]
    elif axes[0] == "E+":
        value, axes = value[:sizes["E"]], ["E", *axes[1:]]
    ours = OURS[line.ours[0]].split()
    if len(ours) == 1:
        value = value.reshape(-1)
    elif [axis.lstrip("2") for axis in axes] != ours[-len(axes):]:
        value = value.swapaxes(-1, -2)
    if len(line.ours) == 1:
        return [value]
    half = value.shape[-1] // 2
    return ([value[..., ::2], value[..., 1::2]] if line.woven
            else [value[..., :half], value[..., half:]])
