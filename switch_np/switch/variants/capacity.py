"""Expert capacity by the rules of other libraries.

Source: the paper gives (tokens / experts) * factor without a rounding; each library has its own
rounding, minimum and place for K. For 20 tokens, 8 experts, factor 1.25 and K = 2 they say 3, 4, 6
or 7. All of it is whole-number arithmetic: nothing here has a gradient.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from switch_np.switch.config import SwitchConfig

ROUND = {"floor": math.floor, "ceil": math.ceil, "half_even": round}


def slots(config: SwitchConfig, group_size: int, training: bool) -> int | None:
    """Return the slots that an expert can fill for a group of `group_size` tokens; None: all.

    The product comes before the quotient, so that ceil(factor * n / E) is exact where it can be.

    >>> from switch_np.switch.config import SwitchConfig
    >>> for name in "mesh_tf_top2", "deepspeed_top2", "tutel":
    ...     slots(SwitchConfig.like(name, num_experts=8, capacity_factor=1.25), 20, True)
    4
    7
    6
    """
    rules = config.conventions
    factor = config.factor(training)
    k = config.top_k if config.capacity_per_choice else 1
    if config.capacity is not None:
        found = config.capacity
    elif not training and rules.eval_capacity_fraction is not None:
        found = max(math.ceil(rules.eval_capacity_fraction * group_size), config.min_capacity)
    elif factor is None:
        return None
    else:
        rounded = ROUND[rules.capacity_rounding]
        if rules.capacity_whole_share:
            found = k * rounded(factor * math.ceil(group_size / config.num_experts))
        else:
            found = rounded(k * group_size * factor / config.num_experts)
        if rules.capacity_at_most_group:
            found = min(found, group_size)
        found = max(found, config.min_capacity)
        found += -found % rules.capacity_multiple_of
    return max(found - rules.capacity_unused, 0)
