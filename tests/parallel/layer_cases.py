"""The layer over simulated ranks beside one process with groups."""

from dataclasses import replace

import numpy as np
from support import layer_problem

import switch_np as snp
from switch_np.conventions.table import Conventions
from switch_np.operations import tree
from switch_np.parallel import layer, shards, simulated
from switch_np.parallel.mesh import lay_out
from switch_np.switch.config import SwitchConfig

MESHES = [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (4, 2)]
CONFIGS = {
    "switch": SwitchConfig(num_experts=4, capacity_factor=1.0),
    "no limit": SwitchConfig(num_experts=8, capacity_factor=None),
    "two choices": SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.0, jitter=0.2),
    "bias and dropout": SwitchConfig(num_experts=4, top_k=2, router_bias=True, router_dropout=0.3,
                                     expert_dropout=0.4, sample=True),
    "experts with biases": SwitchConfig(num_experts=4, capacity_factor=0.8, expert_dropout=0.2,
                                        conventions=Conventions(expert_biases=True)),
    "gated": SwitchConfig(num_experts=4, conventions=Conventions(
        expert_activation="gelu_tanh", expert_gated=True, expert_biases=True)),
    "all dropped": SwitchConfig(num_experts=4, capacity=0),
    "groups": SwitchConfig(num_experts=4, groups=8, capacity_factor=1.5),
    "rows": SwitchConfig(num_experts=4, groups="rows", capacity_factor=1.5)}
COEFS = 0.3, 0.7                                         # upstream of balance loss and z-loss


def problem(config, seed=0, padded=0.2, shape=(8, 6), d_model=5, d_ff=8):
    """Return params, x, padding, noise and d_y of a batch of sequences."""
    params, x, padding, noise = layer_problem(seed, config, shape, d_model, d_ff, padded)
    if padding is not None:
        padding[:2] = True                    # on four ranks the first has no real token
    return params, x, padding, noise, np.random.default_rng(seed + 9).standard_normal(x.shape)


def one_process(config, params, x, padding, noise, d_y, ranks):
    """Return y, the losses, d_x and the gradients of one process with a group per rank."""
    if config.groups == "all":
        config = replace(config, groups=ranks)
    out, cache = snp.switch_layer.forward(params, x, config, padding=padding, noise=noise,
                                          training=True)
    d_x, grads = snp.switch_layer.backward(d_y, cache, *COEFS)
    return {"y": out.y, "balance": out.balance_loss, "z": out.z_loss, "x": d_x, **grads}, out


def rank_work(world, config, arrays, shape, **options):
    """Return the same of this rank's part; what it sent; the joined gradients; and its place."""
    mesh = lay_out(world, *shape, **options)
    params, x, padding, noise, d_y = arrays
    x, padding, noise, d_y = shards.parts((x, padding, noise, d_y), mesh.data)
    world.traffic.bytes.clear()
    out, cache = layer.forward(shards.cut(params, mesh), x, config, mesh, padding=padding,
                               noise=noise, training=True)
    d_x, grads = layer.backward(d_y, cache, mesh, *COEFS)
    return ({"y": out.y, "balance": out.balance_loss, "z": out.z_loss, "x": d_x, **grads},
            dict(world.traffic.bytes), shards.join(grads, mesh), mesh.data.rank, mesh.model.rank)


def over_ranks(config, arrays, shape, **options):
    """Return what all ranks computed, put together; every replicated number must be the same."""
    n, m = shape
    found = simulated.run(n * m, lambda world: rank_work(world, config, arrays, shape, **options))
    ranks = [each for each in found if each[4] == 0]
    whole = {name: np.concatenate([each[0][name] for each in ranks]) for name in ("y", "x")}
    whole |= {name: found[0][0][name] for name in ("balance", "z")} | found[0][2]
    for mine, _, joined, i, _ in found:
        for name, value in (tree.flatten(joined) | {
                name: mine[name] for name in ("balance", "z")}).items():
            assert np.asarray(whole[name]).tobytes() == np.asarray(value).tobytes(), name
        assert mine["y"].tobytes() == ranks[i][0]["y"].tobytes()
    return whole, [sent for _, sent, *_ in found]
