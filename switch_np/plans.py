"""Plans made outside the layer: arguments are checked, then `switch.plan` decides.

A plan says which expert, which slot, who is dropped. `switch_layer.forward` makes its own; these
calls are for looking at decisions, replaying another library's, and telling how close they were.
"""

import numpy as np

from switch_np.conventions.margins import Margins, contested, margins
from switch_np.conventions.plan_checks import check_buffers, check_groups, check_plan
from switch_np.conventions.replay import from_choices
from switch_np.operations import check
from switch_np.switch import plan
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan

__all__ = ["Margins", "Plan", "check_plan", "contested", "decide", "fill", "from_choices",
           "margins"]


def decide(scores_TE: np.ndarray, config: SwitchConfig, *, num_groups: int = 1,
           padding_T: np.ndarray | None = None, training: bool = False) -> Plan:
    """Give every token its experts and slots, under the paper's conventions.

    At a tie the lowest index wins. Slots go by order of choice, then by position. The capacity
    counts all tokens of a group, padding included, as the authors' code does.

    Parameters
    ----------
    scores_TE
        What ranks the experts of a token: the router's probabilities, or logits with noise.
    config
        Says k, capacity and layout.
    num_groups
        Tokens are cut into this many equal consecutive groups, each with buffers of its own.
    padding_T
        (T,) bool, True where the token is padding: it takes no slot and is not counted.
    training
        Chooses between the two capacity factors.

    Examples
    --------
    >>> scores = np.array([[.7, .3], [.6, .4], [.2, .8], [.9, .1]])
    >>> plan = decide(scores, SwitchConfig(num_experts=2, capacity_factor=1.0))
    >>> plan.expert[:, 0].tolist(), plan.slot[:, 0].tolist(), plan.dropped_fraction
    ([0, 0, 1, 0], [0, 1, 0, -1], 0.25)
    """
    check.instance("config", config, SwitchConfig)
    if not config.conventions.papers:
        raise ValueError("config must have the paper's conventions, got others; "
                         "conventions.serve.decide follows these")
    check.floats("scores_TE", scores_TE, ("T", config.num_experts))
    _check(len(scores_TE), num_groups, padding_T)
    if config.layout == "buffers":
        check_buffers(config.expert_capacity(len(scores_TE) // max(num_groups, 1), training),
                      config.num_experts, num_groups)
    return plan.decide(scores_TE, config, num_groups, padding_T, training)


def fill(expert_TK: np.ndarray, num_experts: int, *, num_groups: int = 1, capacity: int | None,
         padding_T: np.ndarray | None = None, layout: str = "packed") -> Plan:
    """Give slots to choices already made: the second half of `decide`.

    >>> fill(np.array([[0], [0], [1]]), 2, capacity=1).kept[:, 0].tolist()
    [True, False, True]
    """
    if not isinstance(expert_TK, np.ndarray) or expert_TK.dtype.kind not in "iu" or (
            expert_TK.ndim != 2):
        raise TypeError("expert_TK must be an array (T, K) of whole numbers, got "
                        f"{getattr(expert_TK, 'dtype', type(expert_TK).__name__)} of shape "
                        f"{np.shape(expert_TK)}")
    if capacity is not None:
        check.integer("capacity", capacity, 0)
    check.choice("layout", layout, ["packed", "buffers"])
    _check(len(expert_TK), num_groups, padding_T)
    if layout == "buffers":
        check_buffers(capacity, num_experts, num_groups)
    return plan.fill(expert_TK, num_experts, num_groups, capacity, padding_T, layout)


def _check(num_tokens: int, num_groups: int, padding_T: np.ndarray | None) -> None:
    """Refuse groups and padding that do not fit the tokens."""
    check_groups(num_tokens, num_groups)
    if padding_T is not None:
        check.booleans("padding_T", padding_T, (num_tokens,))
