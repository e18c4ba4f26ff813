"""The Switch layer over a mesh of ranks, each with its own tokens and its part of the experts.

Source: section 5 of the paper. The layer is `switch.layer`, with parts that talk to other ranks.
With n data ranks it computes what one process computes with `groups=n`: capacity is per rank and
expert, so the tokens of a rank are a group (or several, if `groups` is a multiple of n).

Forward:   router, plan and gates on a rank's own tokens; mixture and losses over ranks
Backward:  the same, from the bottom up; at the end the router's gradient, of which each rank has
           the part of its own tokens, is summed over the data ranks: W_r is one matrix, copied to
           n ranks, and the adjoint of a copy is a sum.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from switch_np import switch_layer
from switch_np.conventions import arguments, bind, general_mixture, noise as noises
from switch_np.conventions.noise import Noise
from switch_np.operations import check
from switch_np.operations.rounded import cast
from switch_np.parallel import losses, shards
from switch_np.parallel.mesh import Mesh
from switch_np.parallel.mixture import Mixture
from switch_np.switch import feed_forward, layer
from switch_np.switch.config import SwitchConfig
from switch_np.switch.layer import LayerCache, LayerOutput, Parts
from switch_np.switch.plan import Plan


def forward(params: Mapping[str, np.ndarray], x: np.ndarray, config: SwitchConfig, mesh: Mesh, *,
            plan: Plan | None = None, padding: np.ndarray | None = None,
            noise: Noise | None = None, training: bool = False, name: str = "",
            change: Callable[[Parts], Parts] = lambda parts: parts
            ) -> tuple[LayerOutput, LayerCache]:
    """Route this rank's tokens through the experts of all ranks.

    Parameters
    ----------
    params, x, plan, padding, noise
        As in `switch_layer.forward`, this rank's parts, such as `shards` cuts.
    config, mesh
        Of the whole layer, and of this rank; `groups` counts those of all ranks, "all" is one each.
    name, change
        A prefix for the names under which traffic is counted; replaces parts of the layer.

    The losses in the output are those of all ranks; the rest is this rank's own.

    Examples
    --------
    >>> from switch_np.parallel import simulated
    >>> from switch_np.parallel.mesh import lay_out
    >>> config, rng = SwitchConfig(num_experts=4), np.random.default_rng(0)
    >>> params, x = switch_layer.init(rng, 8, 16, config), rng.standard_normal((12, 8))
    >>> def work(world):
    ...     mesh = lay_out(world, data=2)
    ...     return forward(shards.cut(params, mesh), shards.part(x, mesh.data), config, mesh)[0].y
    >>> whole, _ = switch_layer.forward(params, x, replace(config, groups=2))
    >>> bool(abs(np.concatenate(simulated.run(2, work)) - whole.y).max() < 1e-15)
    True
    """
    mesh.check(config)
    check.floats("x", x, x.shape, finite=True)
    check.floats("params['w_in']", params["w_in"], (
        config.num_experts // mesh.experts.size, x.shape[-1], "F"), like=x)
    if padding is not None:
        check.booleans("padding", padding, x.shape[:-1])
        padding = padding.reshape(-1)
    if isinstance(config.groups, int):
        config = replace(config, groups=config.groups // mesh.data.size)
    groups = arguments.num_groups(config, x.shape)
    x_TD = cast(x.reshape(-1, x.shape[-1]), like=params["w_in"])
    width = params["w_in"].shape[2] * mesh.model.size
    noise = noises.noise_for(noise, config, x_TD, width, None, plan, training)
    scale_TD = noises.router_scale(noise, config.router_dropout, x.real.dtype)
    network = feed_forward if config.conventions.papers else general_mixture.network(
        config.conventions)
    parts = bind.PAPERS._replace(mixture=Mixture(mesh.experts, mesh.model, name, network),
                                 balance_loss=losses.balance(mesh.data, mesh.balance, name),
                                 z_loss=losses.z(mesh.data, name))
    out, cache = layer.forward(params, x_TD, config, plan, groups, padding, scale_TD,
                               noise.gumbel, noise.expert_dropout, training, change(parts))
    return out._replace(y=out.y.reshape(x.shape)), cache._replace(shape=x.shape, noise=noise)


def backward(d_y: np.ndarray, cache: LayerCache, mesh: Mesh, d_balance_loss: float = 0.0,
             d_z_loss: float = 0.0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return this rank's d_x, shaped like x, and the gradients of its parameters, over all tokens.

    `d_balance_loss` and `d_z_loss` are the same on all ranks, as the losses are.
    """
    d_x, grads = switch_layer.backward(d_y, cache, d_balance_loss, d_z_loss)
    return d_x, shards.reduce(grads, mesh)
