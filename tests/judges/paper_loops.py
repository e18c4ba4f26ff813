"""The Switch layer once more, as plain loops over tokens: the judge of the layer, forward only.

Written from the paper's text alone, one token and one number at a time, without any call of the
other files. It is slow, and meant to be too simple to be wrong.
"""

import math
from collections import namedtuple

import numpy as np

from switch_np.conventions.noise import Noise

# All that `layer.forward` computes, under the same names and in the same shapes.
LoopsOutput = namedtuple("LoopsOutput", "y balance_loss z_loss probs logits gates expert slot kept "
                                        "load capacity")


def forward(params, x_TD, config, *, num_groups=1, padding_T=None, noise=Noise(), training=False):
    """Route the tokens x (T, D), one after the other, through their experts.

    Examples
    --------
    >>> from switch_np import SwitchConfig
    >>> params = {"w_router": np.eye(2), "w_in": np.ones((2, 2, 1)), "w_out": np.ones((2, 1, 2))}
    >>> config = SwitchConfig(num_experts=2, capacity=1)
    >>> out = forward(params, np.array([[3.0, 1.0]]), config)
    >>> out.expert.tolist(), out.y.round(2).tolist()
    ([[0]], [[3.52, 3.52]])
    """
    tokens, experts, k = len(x_TD), config.num_experts, config.top_k
    real = [padding_T is None or not padding_T[t] for t in range(tokens)]
    probs, logits = np.zeros((tokens, experts)), np.zeros((tokens, experts))
    expert, gates = np.zeros((tokens, k), int), np.zeros((tokens, k))
    log_z = [0.0] * tokens
    for t in range(tokens):
        logits[t], probs[t], log_z[t] = _route(params, x_TD[t], config, noise, t)
        scores = probs[t] if noise.gumbel is None else logits[t] + noise.gumbel[t]
        expert[t] = sorted(range(experts), key=lambda e: (-scores[e], e))[:k]
        gates[t] = [probs[t, e] for e in expert[t]]

    group_size = tokens // num_groups if num_groups else 0
    groups = [range(g * group_size, (g + 1) * group_size) for g in range(num_groups)]
    load = np.zeros((num_groups, experts), int)
    place = np.full((tokens, k), -1)
    for g, members in enumerate(groups):
        for choice in range(k):                            # first choices before second ones
            for t in members:
                if real[t]:
                    place[t, choice] = load[g, expert[t, choice]]
                    load[g, expert[t, choice]] += 1
    capacity = _capacity(config, group_size, training)
    if capacity is None:
        capacity = max((int(n) for n in load.ravel()), default=0)
    first = expert[:, 0].copy()
    if config.tries != 1:
        _send_on(expert, place, probs, groups, real, capacity, config)
        for t in range(tokens):
            gates[t, 0] = probs[t, expert[t, 0]]
    kept = (place >= 0) & (place < capacity)

    y = np.zeros(x_TD.shape)
    for t in range(tokens):
        for choice in range(k):
            if kept[t, choice]:
                y[t] += gates[t, choice] * _expert(params, x_TD[t], config, noise, t, choice,
                                                   expert[t, choice])
    return LoopsOutput(y, _balance(probs, first, groups, real, experts), _z(log_z, real), probs,
                       logits, gates, expert, np.where(kept, place, -1), kept, load, capacity)


def _send_on(expert, place, probs, groups, real, capacity, config):
    """Round by round, let each token without a slot ask the next of its experts for one."""
    experts = config.num_experts
    for members in groups:
        waiting = [t for t in members if real[t] and place[t, 0] >= capacity]
        taken = [sum(expert[t, 0] == e and 0 <= place[t, 0] < capacity for t in members)
                 for e in range(experts)]
        for asked in range(1, experts if config.tries == "all" else config.tries):
            for t in list(waiting):
                e = sorted(range(experts), key=lambda e: (-probs[t, e], e))[asked]
                if taken[e] < capacity:
                    expert[t, 0], place[t, 0] = e, taken[e]
                    taken[e] += 1
                    waiting.remove(t)


def _route(params, x_D, config, noise, t):
    """Return one token's logits, probabilities and log Z."""
    seen = [float(value) for value in x_D]
    for d in range(len(seen)):
        if noise.jitter is not None:
            seen[d] *= noise.jitter[t, d]
        if noise.input_dropout is not None:
            seen[d] *= noise.input_dropout[t, d] / (1 - config.router_dropout)
    logits = []
    for e in range(config.num_experts):
        logit = sum(seen[d] * params["w_router"][d, e] for d in range(len(seen)))
        logits.append(float(logit + (params["b_router"][e] if config.router_bias else 0)))
    highest = max(logits)
    log_z = highest + math.log(sum(math.exp(logit - highest) for logit in logits))
    return logits, [math.exp(logit - log_z) for logit in logits], log_z


def _capacity(config, n, training):
    """Return floor(factor · n / E), or what the options put in its place; None: no limit."""
    if config.capacity is not None:
        return config.capacity
    factor = config.capacity_factor
    if not training and config.eval_capacity_factor != "same":
        factor = config.eval_capacity_factor
    if factor is None:
        return None
    choices = config.top_k * n if config.capacity_per_choice else n
    slots = math.floor(choices * factor / config.num_experts)
    return slots if slots > config.min_capacity else config.min_capacity


def _expert(params, x_D, config, noise, t, choice, e):
    """Return expert e's output for one token."""
    hidden = np.array([max(float(np.dot(x_D, column)), 0.0) for column in params["w_in"][e].T])
    if noise.expert_dropout is not None:
        hidden *= noise.expert_dropout[t, choice] / (1 - config.expert_dropout)
    return np.array([float(np.dot(hidden, column)) for column in params["w_out"][e].T])


def _balance(probs, first, groups, real, experts):
    """Return the mean over groups of E Σ f P, over the groups that have a real token."""
    losses = []
    for members in groups:
        mine = [t for t in members if real[t]]
        if mine:
            f = [sum(first[t] == e for t in mine) / len(mine) for e in range(experts)]
            p = [sum(probs[t, e] for t in mine) / len(mine) for e in range(experts)]
            losses.append(experts * sum(f[e] * p[e] for e in range(experts)))
    return sum(losses) / len(losses) if losses else 0.0


def _z(log_z, real):
    """Return the mean square of log Z over the real tokens."""
    squares = [value ** 2 for value, counts in zip(log_z, real) if counts]
    return sum(squares) / len(squares) if squares else 0.0
