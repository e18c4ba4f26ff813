"""The layer under other libraries' conventions once more, as plain loops: its judge, forward only.

Written from what `Conventions` says of each knob, one token and one number at a time, without any
call of the other files. It is slow, and meant to be too simple to be wrong.
"""

import math
from dataclasses import replace

import numpy as np
from judges.paper_loops import LoopsOutput

from switch_np.conventions.noise import Noise


def forward(params, x_TD, config, *, num_groups=1, padding_T=None, noise=Noise(), training=False):
    """Route the tokens x (T, D), one after the other, through their experts.

    Examples
    --------
    >>> from switch_np import SwitchConfig
    >>> params = {"w_router": np.eye(2), "w_in": np.ones((2, 2, 1)), "w_out": np.ones((2, 1, 2))}
    >>> config = SwitchConfig.like("lucidrains", num_experts=2, second_policy="none")
    >>> out = forward(params, np.array([[3.0, 1.0]]), config)
    >>> out.expert.tolist(), out.kept.tolist(), out.y.round(2).tolist()
    ([[0, 1]], [[True, False]], [[3.52, 3.52]])
    """
    conventions = config.conventions
    tokens, experts = len(x_TD), config.num_experts
    k = experts if conventions.chooser == "experts" else config.top_k
    padding = [padding_T is not None and bool(padding_T[t]) for t in range(tokens)]
    routed = [not padding[t] or conventions.padding_routing != "left_out" for t in range(tokens)]

    seen, logits, probs, log_z = [], [], [], []
    for t in range(tokens):
        x, for_router = _inputs(x_TD[t], config, noise, t)
        seen.append(x)
        mine = _logits(params, for_router, config, noise, t)
        logits.append(mine)
        log_z.append(_log_sum(mine))
        probs.append([_score(logit, log_z[t], conventions) for logit in mine])
    raw = [list(p) for p in probs]
    if conventions.padding_routing == "first_experts":
        probs = [[0.0] * experts if padding[t] else probs[t] for t in range(tokens)]

    expert = [_choose(probs[t], logits[t], params, k, conventions, noise, t) for t in range(tokens)]
    asked = [[routed[t] and (c == 0 or _asked([probs[t][e] for e in expert[t]], c, conventions,
                                              noise, t)) for c in range(k)] for t in range(tokens)]
    group_size = tokens // num_groups if num_groups else 0
    groups = [range(g * group_size, (g + 1) * group_size) for g in range(num_groups)]
    capacity = _capacity(config, group_size, training)
    load = np.zeros((num_groups, experts), int)
    queues = {}
    for g, members in enumerate(groups):
        for t, c in _service(members, k, probs, logits, expert, conventions, noise):
            if asked[t][c]:
                queues.setdefault((g, expert[t][c]), []).append((t, c))
                load[g, expert[t][c]] += 1
    limited = capacity is not None
    if capacity is None:
        capacity = int(load.max(initial=0))
    slot = np.full((tokens, k), -1)
    for queue in queues.values():
        served = queue[:capacity]
        if conventions.priority == "logit_or_zero" and limited:
            served = _before_zeros(queue, capacity, group_size, logits, expert)
        if conventions.slots == "position":
            served = sorted(served)
        for place, (t, c) in enumerate(served):
            slot[t, c] = place
    kept = slot >= 0
    if conventions.chooser == "experts":
        for (g, e), queue in queues.items():
            load[g, e] = sum(kept[t, c] for t, c in queue)

    gates = np.array([_gates([probs[t][e] for e in expert[t]], kept[t], conventions)
                      for t in range(tokens)]).reshape(tokens, k)
    y = np.zeros(x_TD.shape)
    for t in range(tokens):
        for c in range(k):
            if kept[t, c]:
                into = gates[t, c] if conventions.gate_at in ("input", "both") else 1.0
                out = gates[t, c] if conventions.gate_at in ("output", "both") else 1.0
                y[t] += out * _expert(params, into * seen[t], config, noise, t, c, expert[t][c])
        if routed[t] and not kept[t].any():
            if conventions.dropped == "identity":
                y[t] += seen[t]
            elif conventions.dropped == "gated_identity":
                y[t] += sum(gates[t]) * seen[t]
        if routed[t] and conventions.shared_experts:
            mine = {name[7:]: params[name][None] for name in params
                    if name in ("shared_w_in", "shared_w_gate", "shared_w_out")}
            held = conventions
            if conventions.shared_limit != "same":
                held = replace(conventions, expert_limit=conventions.shared_limit)
            own = _network(mine, seen[t], held, 0, None)
            if conventions.shared_gate:
                own /= 1 + math.exp(-float(np.dot(seen[t], params["shared_w_router"][:, 0])))
            y[t] += own
        if routed[t] and conventions.shared_bias:
            y[t] += params["shared_b_out"]
        if conventions.shared_average:
            y[t] /= 2

    if conventions.balance_groups != "same":
        share = tokens // conventions.balance_groups
        groups = [range(g * share, (g + 1) * share) for g in range(conventions.balance_groups)]
    counted = [[math.exp(logit - log_z[t]) for logit in logits[t]]
               for t in range(tokens)] if conventions.balance_probs == "softmax" else probs
    if conventions.balance_probs == "softmax" and conventions.padding_routing == "first_experts":
        counted = [[0.0] * experts if padding[t] else counted[t] for t in range(tokens)]
    balance = _balance(probs, counted, expert, kept, groups, padding, conventions, training,
                       params.get("balance_f"))
    if conventions.second_balance:
        balance += _second_balance(counted, expert, groups, padding)
    if conventions.balance_scale == "mean":
        balance /= experts ** 2
    return LoopsOutput(y, balance, _z(log_z, padding, experts, conventions, training),
                       np.array(raw).reshape(tokens, experts),
                       np.array(logits).reshape(tokens, experts), gates,
                       np.array(expert, int).reshape(tokens, k), slot, kept, load, capacity)


def _inputs(x_D, config, noise, t):
    """Return what the experts see of one token, and what the router sees."""
    x, for_router = x_D.copy(), x_D.copy()
    if noise.jitter is not None:
        for_router = for_router * noise.jitter[t]
        if config.conventions.jitter_reach == "experts":
            x = for_router.copy()
    if noise.input_dropout is not None:
        for_router = for_router * noise.input_dropout[t] / (1 - config.router_dropout)
    return x, for_router


def _logits(params, x_D, config, noise, t):
    found = []
    for e in range(config.num_experts):
        logit = float(np.dot(x_D, params["w_router"][:, e]))
        if config.router_bias:
            logit += float(params["b_router"][e])
        if noise.logits is not None:
            width = 1.0
            if config.conventions.logit_noise == "learned":
                width = math.log1p(math.exp(float(np.dot(x_D, params["w_noise"][:, e]))))
            logit += float(noise.logits[t, e]) * width
        found.append(logit)
    return found


def _log_sum(logits):
    highest = max(logits)
    return highest + math.log(sum(math.exp(logit - highest) for logit in logits))


def _score(logit, log_z, conventions):
    if conventions.scores == "softmax":
        return math.exp(logit - log_z)
    if conventions.scores == "sigmoid":
        return 1 / (1 + math.exp(-logit))
    return math.sqrt(math.log1p(math.exp(logit)))


def _choose(probs, logits, params, k, conventions, noise, t):
    """Return one token's experts, best first."""
    experts = range(len(probs))
    scores = list(probs)
    if noise.gumbel is not None:
        scores = [logits[e] + float(noise.gumbel[t, e]) for e in experts]
    if conventions.select_precision != "same":
        scores = [_round(score, 11 if conventions.select_precision == "float16" else 8)
                  for score in scores]
    if conventions.select_bias:
        scores = [scores[e] + float(params["select_bias"][e]) for e in experts]
    size = len(probs) // conventions.select_groups
    strength = []
    for g in range(conventions.select_groups):
        mine = sorted(scores[g * size:(g + 1) * size])
        strength.append(sum(mine[-conventions.select_group_best:]))
    best = sorted(range(conventions.select_groups), key=lambda g: (-strength[g], g))
    open_ = [e for e in experts if e // size in best[:conventions.select_groups_kept]]
    ranked = sorted(open_, key=lambda e: (-scores[e], e))
    if conventions.second_choice == "sampled" and k > 1:
        others = [e for e in experts if e != ranked[0]]
        noisy = sorted(others, key=lambda e: (-(logits[e] + noise.second[t, e]), e))
        return [ranked[0], *noisy[:k - 1]]
    return ranked[:k]


def _round(value, digits):
    """Round to so many binary digits, halves to even."""
    if value == 0:
        return 0.0
    fraction, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(fraction, digits)), exponent - digits)


def _asked(chosen, c, conventions, noise, t):
    """Tell whether a later choice is asked for."""
    held = chosen[c]
    if conventions.second_compare == "gate":
        held = chosen[c] / _divided_by(chosen, [True] * len(chosen), conventions)
    if conventions.second_policy == "threshold":
        return held > conventions.second_threshold
    if conventions.second_policy == "random":
        return bool(noise.policy[t, c - 1] < held / max(conventions.second_threshold, 1e-9))
    return conventions.second_policy == "all"


def _capacity(config, n, training):
    conventions, e = config.conventions, config.num_experts
    factor = config.capacity_factor
    if not training and config.eval_capacity_factor != "same":
        factor = config.eval_capacity_factor
    k = config.top_k if config.capacity_per_choice else 1
    if config.capacity is not None:
        slots = config.capacity
    elif not training and conventions.eval_capacity_fraction is not None:
        slots = max(math.ceil(conventions.eval_capacity_fraction * n), config.min_capacity)
    elif factor is None:
        return None
    else:
        share = k * n * factor / e
        if conventions.capacity_whole_share:
            share = factor * ((n + e - 1) // e)
        slots = {"floor": math.floor, "ceil": math.ceil, "half_even": round}[
            conventions.capacity_rounding](share)
        if conventions.capacity_whole_share:
            slots *= k
        if conventions.capacity_at_most_group and slots > n:
            slots = n
        if slots < config.min_capacity:
            slots = config.min_capacity
        while slots % conventions.capacity_multiple_of:
            slots += 1
    return max(slots - conventions.capacity_unused, 0)


def _service(members, k, probs, logits, expert, conventions, noise):
    """Return a group's choices in the order in which they are served."""
    by = "gate" if conventions.chooser == "experts" else conventions.priority

    def strength(t, c):
        if by == "weight":
            return _gates([probs[t][e] for e in expert[t]], np.ones(k, bool),
                          replace(conventions, gate_gradient="normal"))[c]
        return {"gate": probs, "logit_or_zero": logits}[by][t][expert[t][c]]

    choices = [(t, c) for t in members for c in range(k)]
    if by == "token":
        return choices
    if by == "random":
        return sorted(choices, key=lambda tc: (-noise.priority[tc], tc[0]))
    if by in ("gate", "weight", "logit_or_zero"):
        return sorted(choices, key=lambda tc: (-strength(*tc), tc[0]))
    if by == "batch":
        members = sorted(members, key=lambda t: (-probs[t][expert[t][0]], t))
    return [(t, c) for c in range(k) for t in members]


def _before_zeros(queue, capacity, group_size, logits, expert):
    """Return those of a queue that get a slot, where the zeros of all others compete."""
    rivals = [None] * (group_size - len(queue))
    strong = [(t, c) for t, c in queue if logits[t][expert[t][c]] >= 0]
    weak = [(t, c) for t, c in queue if logits[t][expert[t][c]] < 0]
    return [choice for choice in (strong + rivals + weak)[:capacity] if choice is not None]


def _divided_by(chosen, counts, conventions):
    """Return s, by which the gates are divided."""
    q = conventions.renorm_power
    total = sum(p ** q for p, counted in zip(chosen, counts) if counted) ** (1 / q)
    eps = conventions.renorm_eps
    eps = float(np.finfo(float).eps) if eps == "finfo" else eps
    total = total + eps if conventions.renorm_eps_mode == "add" else max(total, eps)
    return total if total else 1.0


def _gates(chosen, kept, conventions):
    """Return one token's gates."""
    s = 1.0
    if conventions.renorm != "none" and (len(chosen) > 1 or conventions.renorm_single):
        counts = [conventions.renorm == "pre" or bool(one) for one in kept]
        s = _divided_by(chosen, counts, conventions)
    gates = [conventions.gate_scale * p / s for p in chosen]
    if conventions.gate_gradient == "unit":
        gates = [1.0 if gate else 0.0 for gate in gates]
    return gates


def _activate(value, conventions):
    kind = conventions.expert_activation
    if kind == "relu":
        return max(value, 0.0)
    if kind == "relu_squared":
        return max(value, 0.0) ** 2
    if kind == "silu":
        return value / (1 + math.exp(-conventions.expert_silu_factor * value))
    if kind == "gelu":
        return value * (1 + math.erf(value / math.sqrt(2))) / 2
    return value * (1 + math.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value ** 3))) / 2


def _expert(params, x_D, config, noise, t, c, e):
    """Return expert e's output for one token."""
    keep = None
    if noise.expert_dropout is not None:
        keep = noise.expert_dropout[t, c] / (1 - config.expert_dropout)
    return _network(params, x_D, config.conventions, e, keep)


def _network(params, x_D, conventions, e, keep):
    hidden = []
    for f in range(params["w_in"].shape[2]):
        unit = float(np.dot(x_D, params["w_in"][e][:, f]))
        if "b_in" in params:
            unit += float(params["b_in"][e, f])
        if conventions.expert_gated:
            gate = float(np.dot(x_D, params["w_gate"][e][:, f]))
            if "b_gate" in params:
                gate += float(params["b_gate"][e, f])
            limit = conventions.expert_limit
            if limit is not None:
                unit = max(-limit, min(unit, limit))
                if conventions.expert_limit_at == "input":
                    gate = min(gate, limit)
            active = _activate(gate, conventions)
            if limit is not None and conventions.expert_limit_at == "output":
                active = min(active, limit)
            unit = active * (unit + conventions.expert_linear_offset)
        else:
            unit = _activate(unit, conventions)
        if "hidden_scale" in params:
            unit *= float(params["hidden_scale"][e, f])
        hidden.append(unit if keep is None else unit * keep[f])
    out = []
    for d in range(params["w_out"].shape[2]):
        value = float(np.dot(hidden, params["w_out"][e][:, d]))
        out.append(value + float(params["b_out"][e, d]) if "b_out" in params else value)
    return np.array(out)


def _balance(probs, counted, expert, kept, groups, padding, conventions, training, given):
    """Return the mean over groups of E Σ f P."""
    if conventions.balance_counts == "none" or (
            conventions.balance_when == "training" and not training):
        return 0.0
    losses = []
    for members in groups:
        real = [t for t in members if not padding[t]]
        everyone = list(members)
        in_f, in_p, n, factor = {
            "mask_valid": (real, real, len(real), 1.0),
            "include": (everyone, everyone, len(everyone), 1.0),
            "mask_full": (real, real, len(everyone), 1.0),
            "mask_f": (real, everyone, len(everyone), 1.0),
            "mask_p": (everyone, real, len(everyone), 1.0),
            "real_fraction": (everyone, everyone, len(everyone),
                              len(real) / max(len(everyone), 1)),
        }[conventions.balance_padding]
        if not n:
            continue
        experts, k = len(probs[0]), len(expert[0])
        f = [0.0] * experts
        for t in in_f:
            mine = expert[t]
            if conventions.balance_counts in ("plain", "plain_over_k"):
                mine = sorted(range(experts), key=lambda e, t=t: (-probs[t][e], e))[:k]
            for c in range(1 if conventions.balance_counts == "first" else k):
                if conventions.balance_drops == "pre" or kept[t, c]:
                    f[mine[c]] += 1 / n
                elif conventions.balance_drops == "post_as_0":
                    f[0] += 1 / n
        f = f if given is None else [float(share) for share in given]
        p = [sum(_counted(counted[t], expert[t], conventions)[e] for t in in_p) / n
             for e in range(experts)]
        if conventions.balance_counts in ("all_over_k", "plain_over_k"):
            factor /= k
        losses.append(factor * experts * sum(f[e] * p[e] for e in range(experts)))
    return sum(losses) / len(losses) if losses else 0.0


def _counted(probs, expert, conventions):
    """Return one token's share in P."""
    if conventions.balance_probs in ("full", "softmax"):
        return probs
    part = [e in expert or conventions.balance_probs == "normalised" for e in range(len(probs))]
    total = sum(p for p, counts in zip(probs, part) if counts)
    return [p / total if counts and total else 0.0 for p, counts in zip(probs, part)]


def _second_balance(probs, expert, groups, padding):
    losses = []
    for members in groups:
        if not len(members):
            continue
        n, experts = len(members), len(probs[0])
        f, q = [0.0] * experts, [0.0] * experts
        for t in members:
            rest = [0.0 if e == expert[t][0] and not padding[t] else probs[t][e]
                    for e in range(experts)]
            for e in range(experts):
                q[e] += rest[e] / (sum(rest) + 1e-9) / n
            if not padding[t]:
                f[expert[t][1]] += 1 / n
        losses.append(0.5 * experts * sum(f[e] * q[e] for e in range(experts)))
    return sum(losses) / len(losses) if losses else 0.0


def _z(log_z, padding, experts, conventions, training):
    """Return the mean square of log Z."""
    if conventions.z_when == "never" or (conventions.z_when == "training" and not training):
        return 0.0
    if conventions.z_padding == "zero_logits":
        log_z = [math.log(experts) if pad else value for value, pad in zip(log_z, padding)]
    squares = [value ** 2 for value, pad in zip(log_z, padding)
               if not pad or conventions.z_padding != "valid"]
    return sum(squares) / len(squares) if squares else 0.0
