"""The oracle's arguments: checked, and lifted to float64 from arrays of any library."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from switch_np.conventions.noise import Noise
from switch_np.conventions.presets import presets
from switch_np.operations import adapters, check, environment
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan


def config_of(config: SwitchConfig | str, shapes: Mapping[str, tuple[int, ...]], gates: Any,
            plan: Any, balance_coef: float, z_coef: float) -> SwitchConfig:
    """Return the config, and refuse arguments that do not go with gates or without them."""
    check.number("balance_coef", balance_coef)
    check.number("z_coef", z_coef)
    needed, own = "w_router" if gates is None else "w_in", {}
    if needed not in shapes:
        raise ValueError(f"params must hold {needed}, got {sorted(shapes)}"
                         + "; without a router, gates= and plan= take its place"
                         * (gates is None))
    if gates is not None:
        if plan is None:
            raise ValueError("plan must name the experts that the gates weight, got None")
        if balance_coef or z_coef:
            raise ValueError("balance_coef and z_coef must be 0 with gates=, since a router's "
                             f"losses are not known, got {balance_coef} and {z_coef}")
        shape = adapters.shape_of(gates, "gates")
        own["top_k"] = shape[-1] if len(shape) > 1 else 1
    if isinstance(config, str):
        own["num_experts"] = shapes.get("w_in", shapes[needed][::-1])[0]
        known = presets().get(config)
        if known and known.settings.get("shared_experts") and "shared_w_in" in shapes:
            own["shared_width"] = shapes["shared_w_in"][-1]
        config = SwitchConfig.like(config, **own)
    return config


def lift(name: str, value: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return a finite float64 array, of this shape if one is given; None then means zeros."""
    array = adapters.lift(value, name) if value is not None or shape is None else np.zeros(shape)
    check.floats(name, array, array.shape if shape is None else shape, finite=True)
    return array


def rows_of_gates(gates: np.ndarray, plan: Plan) -> np.ndarray:
    """Return gates (T, K), one for each choice, from (T,), (B, S, K) or (T, K)."""
    if gates.size != plan.expert.size:
        raise ValueError(f"gates must hold a number for each of the {plan.expert.shape} choices of "
                         f"plan, got shape {gates.shape}")
    return gates.reshape(plan.expert.shape)


def check_memory(x_shape: tuple[int, ...], shapes: list[tuple[int, ...]], top_k: int) -> None:
    """Refuse sizes whose reference would not fit into the memory that is free."""
    weights = sum(map(math.prod, shapes))
    width = sum(n for shape in shapes for n in shape[-2:])
    needed = 8 * (8 * weights + math.prod(x_shape[:-1]) * (12 * x_shape[-1] + 4 * top_k * width))
    environment.check_memory(f"x of shape {x_shape} with {weights:,} weights in float64", needed)


def lift_noise(noise: Noise | None) -> Noise | None:
    """Return the noise as NumPy arrays: bools stay bools, the rest becomes float64."""
    if noise is None:
        return None
    arrays = {name: adapters.to_numpy(part, f"noise.{name}")
              for name, part in noise._asdict().items() if part is not None}
    return Noise(**{name: array if array.dtype == bool else adapters.lift(array)
                    for name, array in arrays.items()})
