"""Another library's decisions as a plan: expert ids, who was kept, and in which slot.

The derivative is that of the layer with these decisions frozen. The ids may be any distinct
experts, also such as the router would not have chosen: replay has no opinion, `compare` has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from switch_np.oracle.adapters import to_numpy
from switch_np.switch import plan as plans
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan


def as_plan(decisions: Any, config: SwitchConfig, num_tokens: int, *, num_groups: int = 1,
            padding_T: np.ndarray | None = None, training: bool = False) -> Plan:
    """Return the plan that makes just these decisions.

    Parameters
    ----------
    decisions
        A `Plan`; or expert ids (T,), (T, K) or (B, S, K) of any library; or a dict with `expert`
        and, as far as known, `kept` (bool) and `slot`, of the same shape. Without `kept` the
        capacity decides, in the order of the config.
    config
        Says the number of experts and the capacity.
    num_tokens, num_groups, padding_T, training
        As `plan.decide` takes them.

    Examples
    --------
    >>> config = SwitchConfig(num_experts=2, capacity=1)
    >>> as_plan(np.array([0, 0, 1]), config, 3).kept[:, 0].tolist()
    [True, False, True]
    >>> as_plan({"expert": [0, 0, 1], "kept": [False, True, True]}, config, 3).token.tolist()
    [1, 2]
    """
    if isinstance(decisions, Plan):
        return decisions
    if not isinstance(decisions, Mapping):
        decisions = {"expert": decisions}
    unknown = set(decisions) - {"expert", "kept", "slot"}
    if unknown or "expert" not in decisions:
        raise ValueError("plan must be a Plan, expert ids or a dict of expert, kept and slot, "
                         f"got the keys {sorted(decisions)}")
    known = {name: by_token(name, value, num_tokens) for name, value in decisions.items()
             if value is not None}
    if "kept" in known:
        known["kept"] = known["kept"].astype(bool)
    return plans.from_choices(known.pop("expert"), config, num_groups=num_groups,
                              padding=padding_T, training=training, **known)


def by_token(name: str, value: Any, num_tokens: int) -> np.ndarray:
    """Return whole numbers or bools of any library as (T, K)."""
    array = to_numpy(value)
    if array.dtype.kind not in "biu":
        raise TypeError(f"{name} must hold whole numbers or bools, got {array.dtype}")
    if array.size and num_tokens and array.size % num_tokens == 0:
        return array.reshape(num_tokens, -1)
    if array.ndim == 2 and len(array) == num_tokens:
        return array
    raise ValueError(f"{name} must have a row for each of {num_tokens} tokens, "
                     f"got shape {array.shape}")
