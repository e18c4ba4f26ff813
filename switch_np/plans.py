"""Plans without a layer: which expert and slot each token gets, and who is dropped.

`switch_layer.forward` makes its own plan; these calls are for looking at decisions, for replaying
another library's, and for asking how close they are. They check arguments, `switch.plan` decides.
"""

import numpy as np

from switch_np.conventions import margins as margins_of
from switch_np.conventions.arguments import check_buffers, check_groups, check_plan
from switch_np.conventions.margins import Margins, contested
from switch_np.conventions.noise import Noise
from switch_np.conventions.replay import from_choices
from switch_np.operations import check
from switch_np.switch import plan as papers
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan

__all__ = ["Margins", "Plan", "check_plan", "contested", "decide", "fill", "from_choices",
           "margins"]


def decide(scores_TE: np.ndarray, config: SwitchConfig, *, num_groups: int = 1,
           padding_T: np.ndarray | None = None, training: bool = False) -> Plan:
    """Give every token its experts and slots, by the paper's conventions.

    The lowest index wins a tie. Slots go to first choices by position, then to second choices. The
    capacity counts all tokens of a group, including padding, as in the authors' code.

    Parameters
    ----------
    scores_TE
        Whatever ranks the experts of a token: the router's probabilities, or logits with noise.
    config
        Says k, capacity and layout.
    num_groups
        Tokens form this many equal, consecutive groups, each with its own buffers.
    padding_T
        (T,) bool, True where the token is padding: it takes no slot and is not counted.
    training
        Selects the training capacity factor.

    Examples
    --------
    >>> scores = np.array([[.7, .3], [.6, .4], [.2, .8], [.9, .1]])
    >>> plan = decide(scores, SwitchConfig(num_experts=2, capacity_factor=1.0))
    >>> plan.expert[:, 0].tolist(), plan.slot[:, 0].tolist(), plan.dropped_fraction
    ([0, 0, 1, 0], [0, 1, 0, -1], 0.25)
    """
    check.instance("config", config, SwitchConfig)
    if not config.conventions.papers:
        raise ValueError("config must have the paper's conventions, got others: "
                         "conventions.serve.decide follows them")
    check.floats("scores_TE", scores_TE, ("T", config.num_experts))
    check_groups(len(scores_TE), num_groups, padding_T)
    if config.layout == "buffers":
        check_buffers(config.expert_capacity(len(scores_TE) // max(num_groups, 1), training),
                      config.num_experts, num_groups)
    return papers.decide(scores_TE, config, num_groups=num_groups, padding_T=padding_T,
                        training=training)


def fill(expert_TK: np.ndarray, num_experts: int, *, num_groups: int = 1, capacity: int | None,
         padding_T: np.ndarray | None = None, layout: str = "packed") -> Plan:
    """Give slots to choices already made: the second half of `decide`.

    Examples
    --------
    >>> fill(np.array([[0], [0], [1]]), 2, capacity=1).kept[:, 0].tolist()
    [True, False, True]
    """
    check.integers("expert_TK", expert_TK, ("T", "K"), 0, num_experts)
    if capacity is not None:
        check.integer("capacity", capacity, 0)
    check.choice("layout", layout, ["packed", "buffers"])
    check_groups(len(expert_TK), num_groups, padding_T)
    if layout == "buffers":
        check_buffers(capacity, num_experts, num_groups)
    return papers.fill(expert_TK, num_experts, num_groups=num_groups, capacity=capacity,
                      padding_T=padding_T, layout=layout)


def margins(scores_TE: np.ndarray, plan: Plan, config: SwitchConfig | None = None, *,
            logits_TE: np.ndarray | None = None, padding_T: np.ndarray | None = None,
            bias_E: np.ndarray | None = None, noise: Noise | None = None,
            training: bool = False) -> Margins:
    """Return how far each token is from another decision, in units of the scores.

    Parameters
    ----------
    scores_TE, plan
        What ranked the experts (probabilities, or logits with noise), and the decisions.
    config, logits_TE, padding_T, bias_E, noise, training
        Under other libraries' conventions: the config, and whatever else decided.

    Examples
    --------
    >>> scores = np.array([[.7, .3], [.6, .4]])
    >>> found = margins(scores, decide(scores, SwitchConfig(num_experts=2, capacity_factor=1.0)))
    >>> found.choice.round(2).tolist(), found.contested.tolist()
    ([0.4, 0.2], [True, True])
    """
    check.instance("plan", plan, Plan)
    check.floats("scores_TE", scores_TE, (len(plan.expert), plan.load.shape[1]))
    if config is not None:
        check.instance("config", config, SwitchConfig)
        if not config.conventions.papers:
            return margins_of.margins(scores_TE, plan, config, logits_TE=logits_TE,
                                      padding_T=padding_T, bias_E=bias_E, noise=noise or Noise(),
                                      training=training)
    return margins_of.papers_margins(scores_TE, plan)
