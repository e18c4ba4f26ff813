"""The Switch layer's public calls: they check arguments and draw noise; `switch.layer` computes."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from switch_np.conventions import arguments, bind, noise as noises, parameters
from switch_np.conventions.noise import Noise
from switch_np.conventions.parameters import in_precision
from switch_np.operations import check
from switch_np.operations.initialization import truncated_normal
from switch_np.operations.rounded import cast
from switch_np.switch import layer
from switch_np.switch.config import SwitchConfig
from switch_np.switch.layer import LayerCache, LayerOutput
from switch_np.switch.plan import Plan

__all__ = ["LayerCache", "LayerOutput", "backward", "forward", "in_precision", "init", "shapes"]


def init(rng: np.random.Generator, d_model: int, d_ff: int, config: SwitchConfig,
         scale: float = 0.1, dtype: DTypeLike = np.float64) -> dict[str, np.ndarray]:
    """Draw the parameters: truncated normal, σ = √(scale / fan-in) before truncation (section 2.4).

    Returns
    -------
    dict
        `w_router` (D, E), `w_in` (E, D, F), `w_out` (E, F, D), and whatever else `shapes` lists.
        Biases are zeros, `hidden_scale` is ones.

    Examples
    --------
    >>> config = SwitchConfig(num_experts=4)
    >>> params = init(np.random.default_rng(0), d_model=8, d_ff=16, config=config)
    >>> {name: value.shape for name, value in params.items()}
    {'w_router': (8, 4), 'w_in': (4, 8, 16), 'w_out': (4, 16, 8)}
    """
    check.instance("rng", rng, np.random.Generator)
    check.integer("d_model", d_model, 1)
    check.integer("d_ff", d_ff, 1)
    check.number("scale", scale, 0)
    params = {}
    for name, shape in shapes(d_model, d_ff, config).items():
        if math.prod(shape) >= arguments.MOST_ROWS:
            raise ValueError(f"d_model and d_ff must give arrays that fit a memory, got {name} of "
                             f"shape {shape}")
        if "w_" in name:
            params[name] = truncated_normal(rng, shape, shape[-2], scale, dtype)
        else:
            params[name] = (np.ones if name == "hidden_scale" else np.zeros)(shape, dtype)
    return params


def shapes(d_model: int, d_ff: int, config: SwitchConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of a layer, by name.

    >>> shapes(8, 16, SwitchConfig(num_experts=4, router_bias=True))["b_router"]
    (4,)
    """
    check.integer("d_model", d_model, 0)
    check.integer("d_ff", d_ff, 0)
    check.instance("config", config, SwitchConfig)
    return parameters.shapes(d_model, d_ff, config)


def forward(params: Mapping[str, np.ndarray], x: np.ndarray, config: SwitchConfig, *,
            plan: Plan | None = None, padding: np.ndarray | None = None,
            noise: Noise | None = None, rng: np.random.Generator | None = None,
            training: bool = False) -> tuple[LayerOutput, LayerCache]:
    """Route every token through its experts.

    Parameters
    ----------
    params, config
        As given by `init` and to it; `in_precision` makes them compute in bfloat16.
    x
        Tokens (T, D) or (B, S, D), float32 or float64; complex for complex-step differentiation.
    plan
        Replay these decisions, made for the same padding, instead of making new ones.
    padding
        Bool (T,) or (B, S), True where the token is padding: y is 0 there, no slot is taken, and no
        loss counts it. Other libraries' conventions may treat it differently.
    noise, rng
        Noise to replay, in training or not; or else the generator that draws it in training.
    training
        Turns noise on and selects the training capacity factor.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; the message names it. What decides must be finite: x, noise,
        the router's weights and biases, and the logits that they give. NaN and infinity in other
        parameters, or in d_y, flow on into the results.

    Examples
    --------
    >>> config = SwitchConfig(num_experts=4, capacity_factor=1.0)
    >>> rng = np.random.default_rng(0)
    >>> params = init(rng, d_model=8, d_ff=16, config=config)
    >>> out, cache = forward(params, rng.standard_normal((12, 8)), config)
    >>> out.y.shape, out.plan.capacity, out.plan.load.tolist()
    ((12, 8), 3, [[4, 2, 4, 2]])
    """
    x_TD, padding_T, groups = arguments.checked(params, x, config, padding, plan, training)
    noise = noises.noise_for(noise, config, x_TD, params["w_in"].shape[2], rng, plan, training)
    x_TD = cast(x_TD, like=params["w_in"])                    # the experts' precision
    scale_TD = noises.router_scale(noise, config.router_dropout, x.real.dtype)
    parts = bind.parts(config, params, noise, padding_T, training)
    out, cache = layer.forward(params, x_TD, config, plan, groups, padding_T, scale_TD,
                               noise.gumbel, noise.expert_dropout, training, parts)
    return out._replace(y=out.y.reshape(x.shape)), cache._replace(shape=x.shape, noise=noise)


def backward(d_y: np.ndarray, cache: LayerCache, d_balance_loss: float = 0.0,
             d_z_loss: float = 0.0, *, d_probs: np.ndarray | None = None,
             d_logits: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return d_x, shaped like x, and the gradients of the parameters.

    Parameters
    ----------
    d_y, cache
        The gradient with respect to y, shaped like it, and what `forward` returned.
    d_balance_loss, d_z_loss
        Gradients with respect to the losses: `balance_coef` and `z_coef`, as models and the oracle
        call them, where the objective adds the losses times these.
    d_probs, d_logits
        (T, E) more gradients with respect to the router's outputs, from losses computed outside the
        layer, such as those that pool several layers.

    Examples
    --------
    >>> config = SwitchConfig(num_experts=4)
    >>> rng = np.random.default_rng(0)
    >>> params = init(rng, d_model=8, d_ff=16, config=config)
    >>> out, cache = forward(params, rng.standard_normal((12, 8)), config)
    >>> d_x, grads = backward(np.ones((12, 8)), cache, d_balance_loss=0.01)
    >>> d_x.shape, sorted(grads)
    ((12, 8), ['w_in', 'w_out', 'w_router'])
    """
    arguments.check_upstream(d_y, cache, d_balance_loss, d_z_loss, d_probs, d_logits)
    d_y_TD = cast(d_y.reshape(len(cache.probs_TE), cache.shape[-1]), like=cache.gates_TK)
    d_balance, d_z = float(d_balance_loss), float(d_z_loss)   # float64 scalars promote float32
    d_x_TD, grads = layer.backward(d_y_TD, cache, d_balance, d_z, d_probs, d_logits)
    return d_x_TD.reshape(cache.shape), grads
