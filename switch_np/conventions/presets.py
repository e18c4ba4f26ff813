"""Presets by name, of libraries and transformers' families, for `SwitchConfig.like(name, ...)`."""

from collections.abc import Mapping
from typing import Any

from switch_np.conventions.families import FAMILIES, LOSSES, SOURCE
from switch_np.conventions.layouts import told
from switch_np.conventions.libraries import PRESETS, Preset
from switch_np.operations import check


def presets() -> dict[str, Preset]:
    """Return all presets by name: libraries, and transformers' families under their folders' names.

    >>> presets()["hf_mixtral"].recorded, presets()["minimax"].same_as
    (True, 'mixtral')
    """
    return PRESETS | {name: _of_family(name) for name, row in FAMILIES.items() if not row.alone}


def settings(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a preset that differ from the paper, with some overridden.

    With fewer experts than by default, transformers' families have fewer groups and choices.

    >>> settings("mesh_tf", {"min_capacity": 1})["min_capacity"]
    1
    >>> settings("mixtrol", {})    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: name must be a preset, got 'mixtrol'; did you mean 'mixtral'? `presets()` lists...
    >>> settings("phimoe", {})     # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: name must be a preset, got 'phimoe', whose router is SparseMixer: experts alone...
    """
    known = presets()
    if name not in list(known):
        row = FAMILIES.get(name) if isinstance(name, str) else None
        raise ValueError(f"name must be a preset, got {name!r}" + (
            f", {row.alone}: {row.line}" if row else
            f"{check.nearest(name, known) or ';'} `presets()` lists them"))
    found = dict(known[name].settings)
    if name in FAMILIES:
        found |= _fitting(found | dict(overrides), found)
    elif name in DERIVED:
        found |= DERIVED[name](found | dict(overrides), found)
    return found | dict(overrides)


def _fitting(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the groups and choices that this many experts allow, at most the family's own."""
    num_experts = given["num_experts"]
    check.integer("num_experts", num_experts, 1)
    most = own.get("select_groups", 1)
    groups = max(g for g in range(1, most + 1)
                 if num_experts % g == 0 and g <= max(num_experts // 2, 1))
    kept = max(groups * own.get("select_groups_kept", 1) // most, 1)
    choices = {"top_k": min(own.get("top_k", 1), num_experts // groups * kept)}
    return choices | ({"select_groups": groups, "select_groups_kept": kept} if most > 1 else {})


def _group_best(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many experts score a group: Megatron's share of the choices."""
    kept = given.get("select_groups_kept", 1)
    check.integer("top_k", given["top_k"], 1)
    check.integer("select_groups_kept", kept, 1)
    return {"select_group_best": max(given["top_k"] // kept, 1)}


def _noise_over_experts(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return V-MoE's standard deviation of the noise: 1 over the number of experts."""
    check.integer("num_experts", given["num_experts"], 1)
    return {"logit_noise_scale": 1 / int(given["num_experts"])}


# Settings that depend on others unless they are given.
DERIVED = {"hf_deepseek_v3": _fitting, "megatron": _group_best, "vmoe": _noise_over_experts}


def _of_family(name: str) -> Preset:
    row = FAMILIES[name]
    base = _of_family(row.base) if row.base in FAMILIES else PRESETS[row.base]
    own = {"num_experts": row.experts, "top_k": row.top_k, **LOSSES[row.loss], **row.differs}
    same = row.base in FAMILIES and row.loss == FAMILIES[row.base].loss and not row.differs
    return Preset(SOURCE.format(name), {**base.settings, **own}, told(row.weights),
                  (row.line,) * bool(row.line), recorded=False, live=True,
                  same_as=(base.same_as or row.base) if same else "")
