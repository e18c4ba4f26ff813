"""Random problems for kernels: inputs that leave no term of any gradient at zero.

The upstream gradient has random signs, the weights are large enough for the router to have clear
preferences, and the coefficients make the three parts of its gradient equal in size, so that a
missing one cannot go unseen.
"""

from typing import Any

import numpy as np

from switch_np import switch_layer
from switch_np.conventions.arguments import MOST_ROWS
from switch_np.conventions.noise import draw_noise
from switch_np.operations import check
from switch_np.operations.precision import round_to
from switch_np.oracle.truth.reference import SEEDS, reference
from switch_np.switch.config import SwitchConfig


def draw(config: SwitchConfig, num_tokens: int, d_model: int, d_ff: int, *, seed: int = 0,
         scale: float = 1.0, padding: int = 0, unused: int = 0, batch: int | None = None,
         training: bool = False, precision: str = "float64") -> dict[str, Any]:
    """Return the arguments of `oracle.reference` for a random problem.

    Random numbers hit no corner: no hidden unit is ever exactly 0, so they cannot tell a rectifier
    with slope 1 or 1/2 there from one with slope 0. The `exact_*` cases of the test vectors can.

    Parameters
    ----------
    config, num_tokens, d_model, d_ff
        The layer and its sizes.
    seed, scale
        Of the generator; of d_y, and with it of the losses' coefficients.
    padding, unused
        How many tokens at the end are padding; how many of the last experts no token chooses, which
        must leave at least K.
    batch
        Cut the tokens into this many rows: x is (B, S, D), not (T, D). With groups="rows" the
        default is one row.
    training, precision
        In training noise is drawn where the config has any; all numbers are rounded to `precision`.

    Examples
    --------
    >>> sorted(draw(SwitchConfig(num_experts=2), 3, d_model=4, d_ff=5))
    ['balance_coef', 'config', 'd_y', 'params', 'x', 'z_coef']
    """
    check.instance("config", config, SwitchConfig)
    check.integer("num_tokens", num_tokens, 0, MOST_ROWS)
    check.integer("seed", seed, 0)
    check.number("scale", scale)
    check.flag("training", training)
    batch = 1 if batch is None and config.groups == "rows" else batch
    _check_counts(config, num_tokens, padding, unused, batch)
    rng = np.random.default_rng(seed)
    params = {name: value if value.any() else 0.3 * rng.standard_normal(value.shape)
              for name, value in switch_layer.init(rng, d_model, d_ff, config, scale=2.0).items()}
    x = rng.standard_normal((num_tokens, d_model))
    if unused:                              # a constant feature that keeps tokens away from them
        x[:, -1] = 1.0
        params["w_router"][-1, -unused:] = -12.0
    d_y = float(scale) * rng.standard_normal(x.shape)
    problem: dict[str, Any] = {
        "x": round_to(x, precision), "config": config, "d_y": round_to(d_y, precision),
        "params": {name: round_to(value, precision) for name, value in params.items()},
        "balance_coef": 0.0, "z_coef": 0.0}
    if padding:
        problem["padding"] = np.arange(num_tokens) >= num_tokens - padding
    if training:
        problem["training"] = True
    conventions = config.conventions
    if training or conventions.always_noisy or conventions.noise_when == "always":
        problem["noise"] = draw_noise(rng, config, num_tokens, d_model, d_ff)
    if batch is not None:
        rows = (batch, num_tokens // batch)
        problem |= {name: problem[name].reshape(rows + problem[name].shape[1:])
                    for name in ("x", "d_y", "padding") if name in problem}
    return problem | _coefficients(problem, scale)


def _coefficients(problem: dict[str, Any], scale: float) -> dict[str, float]:
    """Return coefficients that give both losses' gradients of w_router the same size.

    It is the size of the gates' gradient, or `scale` where the gates' sum is constant. A loss that
    is constant, as the balance loss if all experts are chosen, has rounding errors for a gradient.
    """
    seeds = reference(**problem).seeds
    gate, balance, z = (float(np.linalg.norm(seeds[seed]["w_router"])) for seed in SEEDS)
    wanted = gate if gate > 1e-9 * abs(scale) else abs(scale)
    return {f"{name}_coef": float(f"{wanted / size:.3g}") if size > 1e-9 else silent * scale
            for name, size, silent in (("balance", balance, 0.5), ("z", z, 0.25))}


def _check_counts(config: SwitchConfig, num_tokens: int, padding: int, unused: int,
                  batch: int | None) -> None:
    spare = config.num_experts - config.num_choices
    for name, value, most, what in (
            ("padding", padding, num_tokens, "the number of tokens"),
            ("unused", unused, spare, "the experts that a token need not choose")):
        check.integer(name, value, 0)
        if value > most:
            raise ValueError(f"{name} must be at most {most}, {what}, got {value}")
    if batch is not None:
        check.integer("batch", batch, 1)
        if num_tokens % batch:
            raise ValueError(f"batch must divide num_tokens, {num_tokens}, got {batch}")
