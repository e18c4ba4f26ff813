"""What the layer is handed: checked, flattened, and with its noise drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from switch_np.operations import check
from switch_np.switch import noise as noises
from switch_np.switch.config import SwitchConfig
from switch_np.switch.noise import Noise
from switch_np.switch.parameters import shapes, variant


def checked(params: Mapping[str, np.ndarray], x: np.ndarray, config: SwitchConfig,
            padding: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Return x (T, D), padding (T,) and the number of groups, once all arguments fit."""
    check.instance("config", config, SwitchConfig)
    if not isinstance(x, np.ndarray) or x.ndim not in (2, 3):
        have = f"shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise (ValueError if isinstance(x, np.ndarray) else TypeError)(
            f"x must be an array of shape (T, D) or (B, S, D), got {have}")
    d = x.shape[-1]
    check.keys("params", params, set(shapes(d, 1, config)))
    check.floats("x", x, x.shape, finite=True)
    check.floats("params['w_in']", params["w_in"], (config.num_experts, d, "F"), like=x)
    for name, shape in shapes(d, params["w_in"].shape[2], config).items():
        routes = name in ("w_router", "b_router", "w_noise", "select_bias")
        check.floats(f"params[{name!r}]", params[name], shape, like=x, finite=routes)
    if config.foreign and type(params["w_router"]) is not type(params["w_in"]):
        raise ValueError("params must share one precision under other libraries' conventions, got "
                         "a router apart: selective precision is the paper's own")
    if padding is not None:
        check.booleans("padding", padding, x.shape[:-1])
        padding = padding.reshape(-1)
    x_TD = x.reshape(math.prod(x.shape[:-1]), d)
    return x_TD, padding, num_groups(config, x.shape)


def num_groups(config: SwitchConfig, shape: tuple[int, ...]) -> int:
    """Return into how many groups the tokens of this shape are cut."""
    if config.groups == "all":
        return 1
    if config.groups == "rows":
        if len(shape) != 3:
            raise ValueError(f"x must have shape (B, S, D) with groups='rows', got {shape}")
        return shape[0]
    tokens = math.prod(shape[:-1])
    if tokens % config.groups:
        raise ValueError(f"groups must divide the number of tokens, {tokens}, got {config.groups}")
    return config.groups


def noise_for(params: Mapping[str, np.ndarray], x_TD: np.ndarray, config: SwitchConfig,
              noise: Noise | None, rng: np.random.Generator | None, replayed: bool,
              training: bool) -> Noise:
    """Return the noise handed in, or drawn in training, or none."""
    check.flag("training", training)
    d_ff = params["w_in"].shape[2]
    if config.foreign:
        return variant().noise_for(noise, config, x_TD, d_ff, rng, replayed, training)
    if noise is not None:
        noises.check_noise(noise, config, x_TD, d_ff)
        return noise
    if not (training and config.noisy):
        return Noise()
    if rng is None:
        raise ValueError("rng must be a Generator (or noise= be given) when training=True and the "
                         "config has noise, got None; jitter=0.0 switches the jitter off")
    check.instance("rng", rng, np.random.Generator)
    return noises.draw_noise(rng, config, *x_TD.shape, d_ff, x_TD.real.dtype)
