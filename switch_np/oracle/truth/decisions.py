"""Another library's decisions as a plan: expert ids, who was kept, and in which slot.

The derivative is that of the layer with these decisions frozen. The ids may be any distinct
experts, even ones that the router would not have chosen: `compare` judges them, replay does not.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from switch_np import plans
from switch_np.operations.adapters import to_numpy
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan


def as_plan(decisions: Any, config: SwitchConfig, num_tokens: int, *, num_groups: int = 1,
            padding_T: np.ndarray | None = None, training: bool = False) -> Plan:
    """Return the plan that makes exactly these decisions.

    Parameters
    ----------
    decisions
        A `Plan`; or expert ids (T,), (T, K) or (B, S, K) of any library; or a dict with `expert`
        and, as far as known, `kept` (bool) and `slot`, of the same shape. Without `kept` the
        capacity decides, in the order of the config.
    config, num_groups, padding_T, training
        As `plans.decide` takes them.

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
        to_numpy(decisions, "plan")                      # an error calls it plan
    known = {name: by_token(name, value, num_tokens) for name, value in as_dict(decisions).items()}
    if "kept" in known:
        known["kept"] = known["kept"].astype(bool)
    return plans.from_choices(known.pop("expert"), config, num_groups=num_groups,
                              padding=padding_T, training=training, **known)


def as_dict(decisions: Any) -> dict[str, Any]:
    """Return decisions, as `as_plan` takes them, as a dict of expert and what else is known."""
    if isinstance(decisions, Plan):
        return {"expert": decisions.expert, "kept": decisions.kept}
    decisions = decisions if isinstance(decisions, Mapping) else {"expert": decisions}
    known = {name: value for name, value in decisions.items() if value is not None}
    if set(known) - {"expert", "kept", "slot"} or "expert" not in known:
        raise ValueError("plan must be a Plan, expert ids or a dict of expert, kept and slot, "
                         f"got the keys {sorted(map(str, known))}")
    return known


def by_token(name: str, value: Any, num_tokens: int) -> np.ndarray:
    """Return whole numbers or bools of any library as (T, K), from (T,), (B, S) or (..., K).

    >>> by_token("expert", [[[0, 1], [2, 0]]], 2).tolist()
    [[0, 1], [2, 0]]
    """
    array = to_numpy(value, name)
    if array.dtype.kind not in "biu":
        raise TypeError(f"{name} must hold whole numbers or bools, got {array.dtype}")
    if name == "kept" and not np.isin(array, (0, 1)).all():
        raise ValueError(f"kept must hold bools, or 0 and 1, got {array.max()}")
    if array.ndim > 1 and math.prod(array.shape[:-1]) == num_tokens:
        return array.reshape(num_tokens, array.shape[-1])
    if array.ndim and array.size == num_tokens:
        return array.reshape(num_tokens, 1)
    raise ValueError(f"{name} must have a row for each of {num_tokens} tokens, (T,), (T, K) or "
                     f"(B, S, K), got shape {array.shape}")
