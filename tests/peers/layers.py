"""What other projects' tests hand over: logits, choices, experts that return their input."""

import json
from pathlib import Path

import numpy as np

from switch_np import SwitchConfig, switch_layer

FACTS = json.loads((Path(__file__).parent / "facts.json").read_text())


def facts(name, case=None):
    """Return a peer's random inputs and results, recorded from its seeds, as arrays."""
    found = FACTS[name] if case is None else FACTS[name][case]
    return {key: np.array(v) if isinstance(v, list) else v for key, v in found.items()}


def like(name, e, **settings):
    """Return the config of a preset without noise on what the router sees."""
    return SwitchConfig.like(name, num_experts=e, **{"jitter": 0.0} | settings)


def random_layer(config, d=12, f=8, seed=0):
    return switch_layer.init(np.random.default_rng(seed), d, f, config)


def on_logits(logits, config, precision=None, **options):
    """Run a layer whose router passes its input on: the logits are x, the experts are zeros."""
    e = logits.shape[-1]
    params = {name: np.zeros(shape) for name, shape in switch_layer.shapes(e, 2, config).items()}
    params["w_router"] = np.eye(e)
    params = switch_layer.in_precision(params, None, precision)
    return switch_layer.forward(params, np.asarray(logits, float), config, **options)[0]


def identity_experts(d, config, scale=1.0):
    """Return parameters whose experts give scale_e · x back through a rectifier."""
    e, eye = config.num_experts, np.eye(d)
    params = {n: np.zeros(s) for n, s in switch_layer.shapes(d, 2 * d, config).items()}
    params["w_in"] = np.tile(np.hstack([eye, -eye]), (e, 1, 1))
    scale = np.broadcast_to(np.asarray(scale, float), (e,))
    params["w_out"] = scale[:, None, None] * np.vstack([eye, -eye])
    return params


def served(plan):
    """Return the kept choices as (token, expert, slot)."""
    t, k = np.nonzero(plan.kept)
    return sorted(zip(t.tolist(), plan.expert[t, k].tolist(), plan.slot[t, k].tolist()))


def weights(out):
    """Return the combine weights (T, E): a gate where its choice was kept, else 0."""
    found = np.zeros((len(out.plan.expert), out.plan.load.shape[1]))
    t, k = np.nonzero(out.plan.kept)
    found[t, out.plan.expert[t, k]] = out.gates[t, k]
    return found
