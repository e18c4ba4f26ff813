"""The problems of the vector set, and the bug that each is for.

All inputs are numbers of bfloat16 and of float16, so that one file serves every precision.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from switch_np.operations.precision import round_to
from switch_np.oracle.vectors import exact
from switch_np.oracle.vectors.draw import draw
from switch_np.switch.config import SwitchConfig

Change = Callable[[dict[str, Any]], dict[str, Any]]


class Case(NamedTuple):
    """A named problem: the bug it is for, how it is made, and whether every bit counts."""

    name: str
    hunts: str
    make: Callable[[], dict[str, Any]]
    exact: bool = False


def _problem(preset: str | None, tokens: int = 20, d_model: int = 8, d_ff: int = 10, *,
             padding: int = 0, unused: int = 0, batch: int | None = None,
             change: Change | None = None, num_experts: int = 4, **options: Any) -> dict[str, Any]:
    """Return a random problem, of a preset or of the paper's layer without jitter."""
    config = (SwitchConfig.like(preset, num_experts=num_experts, **options) if preset else
              SwitchConfig(num_experts, jitter=0.0, **options))
    asked = draw(config, tokens, d_model, d_ff, padding=padding, unused=unused, batch=batch,
                 precision="bfloat16")
    asked |= {key: round_to(asked[key], "float16") for key in ("x", "d_y")}
    asked["params"] = {key: round_to(value, "float16") for key, value in asked["params"].items()}
    return change(asked) if change else asked


def _case(name: str, hunts: str, preset: str | None = None, **options: Any) -> Case:
    return Case(name, hunts, partial(_problem, preset, **options))


def _exact(name: str, hunts: str, *args: Any, **options: Any) -> Case:
    return Case(f"exact_{name}", hunts, partial(exact.problem, *args, **options), True)


def _tied(asked: dict[str, Any]) -> dict[str, Any]:
    """Two equal columns of the router: two experts tie for every token, the lowest index wins."""
    asked["params"]["w_router"][:, 2] = asked["params"]["w_router"][:, 1]
    return asked


def _drifted(asked: dict[str, Any]) -> dict[str, Any]:
    """Other experts than the router would choose."""
    t, e = len(asked["x"]), asked["config"].num_experts
    first = np.arange(t) * 7 % e
    return asked | {"plan": {"expert": np.stack([first, (first + 1 + np.arange(t) % 2) % e], 1)}}


def _alone(**coefs: float) -> Change:
    """One loss without the output's gradient."""
    return lambda asked: asked | {"d_y": np.zeros_like(asked["d_y"]), "balance_coef": 0.0,
                                  "z_coef": 0.0, **coefs}


def _hot(asked: dict[str, Any]) -> dict[str, Any]:
    """Logits of some tens: exponentials overflow unless the maximum is subtracted."""
    asked["params"]["w_router"] *= 16
    return asked


CASES = {case.name: case for case in (
    _case("switch_drops", "dropped tokens: y and their experts' gradients are 0",
          capacity_factor=0.8),
    _case("switch_roomy", "nothing is dropped: the plain sum of experts", capacity_factor=None),
    _case("top2_drops", "first choices take slots before second ones; both add up in y and d_x",
          top_k=2, capacity_factor=0.9),
    _case("top3_of_5", "odd sizes, k = 3", tokens=23, d_model=7, d_ff=11, num_experts=5, top_k=3,
          capacity_factor=1.0),
    _case("every_expert", "k = E: each token goes everywhere", top_k=4, capacity_factor=None),
    _case("one_expert", "E = 1: the gate is 1, the router's gradient is 0", num_experts=1,
          capacity_factor=None),
    _case("one_token", "T = 1: a single row and k = 2", tokens=1, top_k=2, capacity_factor=None),
    _case("all_dropped", "capacity 0: y is 0, the losses are not", capacity=0),
    _case("empty_expert", "an expert without tokens: its gradients are 0, not NaN, not None",
          top_k=2, unused=1),
    _case("padding", "padding takes no slot, has no gradient and no share in the losses", top_k=2,
          capacity_factor=0.9, padding=6),
    _case("two_groups", "capacity and balance loss by group", groups=2),
    _case("router_bias", "the router's bias and its gradient", router_bias=True),
    _case("ties", "equal scores: the lowest index wins, another order is legal", change=_tied),
    _case("drifted_replay", "experts that are not the best ones: gates must come from the unmasked "
          "probabilities", top_k=2, capacity_factor=None, change=_drifted),
    _case("balance_alone", "the balance loss's own gradient, nothing to hide it", top_k=2,
          padding=3, change=_alone(balance_coef=1.0)),
    _case("z_alone", "the z-loss's own gradient, nothing to hide it", padding=3,
          change=_alone(z_coef=1.0)),
    _case("hot_logits", "large logits: no overflow, gates near 0 and 1", change=_hot),
    _case("mixtral", "gates divided by their sum, SwiGLU experts", "hf_mixtral"),
    _case("mixtral_top1", "k = 1 with divided gates: the gate is 1, its gradient 0", "hf_mixtral",
          top_k=1),
    _case("transformers_switch", "capacity by row, padding routed like any token", "hf_switch",
          capacity=2, batch=2),
    _case("mesh_top2", "divided gates, f of first choices, capacity by group", "mesh_tf_top2",
          second_policy="all"),
    _case("deepspeed_top2", "gates divided by what was kept", "deepspeed_top2",
          second_choice="largest", capacity_factor=0.5),
    _case("deepseek_v3", "sigmoid scores, a bias that only selects, groups of experts, a shared "
          "expert", "hf_deepseek_v3", num_experts=16, d_model=6, d_ff=4),
    _case("batch_priority", "the most confident tokens first", "flaxformer", top_k=2,
          priority="batch", capacity_factor=0.5),
    _exact("switch", "dispatch, combine and every gradient, k = 1", 1, 4, 1),
    _exact("drops", "the same with dropped tokens", 1, 1, 2),
    _exact("top2", "the same with k = 2", 2, 4, 3),
    _exact("top2_drops", "the same with k = 2 and drops", 2, 2, 4),
    _exact("empty_expert", "an expert without tokens", 2, 4, 5, unused=1),
    _exact("padding", "four tokens of padding", 2, 3, 6, padding=4),
    _exact("balance", "the balance loss and its gradient", 1, 4, 7, balance=True),
    _exact("balance_padding", "the same with padding", 2, 2, 8, balance=True, padding=4),
)}
