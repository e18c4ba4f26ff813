"""The ranks laid out as a mesh: n that share the data, times m that share a network's width.

Source: section 5 and figure 9 of the paper. Rank r = i m + j holds the i-th part of the tokens.

=========================  ====================  ============================================
the paper's layout         lay_out(world, ...)   of the experts' weights rank (i, j) holds
=========================  ====================  ============================================
data                       n, 1, "replicated"    all
model                      1, m                  all E, the j-th part of d_ff
model and data             n, m, "replicated"    all E, the j-th part of d_ff
expert and data            n, 1                  the i-th part of the E experts
expert, model and data     n, m                  the i-th part of E, the j-th part of d_ff
=========================  ====================  ============================================

Every rank holds all other weights, and computes with them for its own tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from switch_np.operations import check
from switch_np.parallel.communicator import Communicator
from switch_np.switch.config import SwitchConfig


class Mesh(NamedTuple):
    """One rank's communicators: with all ranks, and with those that it shares something with.

    `data`: the n ranks of its column, which share the tokens; `model`: the m of its row, which
    share d_ff; `experts`: those that share the experts, the same as `data` or this one alone.
    """

    world: Communicator
    data: Communicator
    model: Communicator
    experts: Communicator
    balance: str

    def check(self, config: SwitchConfig) -> None:
        """Refuse a layer that ranks cannot share evenly, or that differs outside its experts."""
        n = self.data.size
        if not replace(config.conventions, expert_activation="relu", expert_gated=False,
                       expert_biases=False).papers:
            raise ValueError("config must have the paper's conventions over several ranks, except "
                             "for the experts' activation, gate and biases, got others")
        if config.num_experts % self.experts.size:
            raise ValueError(f"num_experts must be a multiple of the {self.experts.size} ranks that"
                             f" share the experts, got {config.num_experts}")
        if isinstance(config.groups, int) and config.groups % n:
            raise ValueError(f"groups must be a multiple of the {n} ranks that share the tokens, "
                             f"got {config.groups}")


def lay_out(world: Communicator, data: int, model: int = 1, experts: str = "shared",
            balance: str = "rank") -> Mesh:
    """Return this rank's place in a mesh of data × model ranks, which must be all of `world`.

    `experts` are "shared" by the data ranks or "replicated"; the `balance` loss is each "rank"'s
    own, averaged, as in the paper, or one over the tokens of "all".

    >>> from switch_np.parallel import simulated
    >>> def place(world):
    ...     mesh = lay_out(world, data=2, model=3)
    ...     return mesh.data.rank, mesh.model.rank
    >>> simulated.run(6, place)
    [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    """
    check.integer("data", data, 1)
    check.integer("model", model, 1)
    check.choice("experts", experts, ["shared", "replicated"])
    check.choice("balance", balance, ["rank", "all"])
    if data * model != world.size:
        raise ValueError(f"data x model must be the number of ranks, {world.size}, got {data} x "
                         f"{model}")
    i, j = divmod(world.rank, model)
    row, column = world.split(j), world.split(i)
    alone = Communicator(traffic=world.traffic)
    return Mesh(world, row, column, row if experts == "shared" else alone, balance)
