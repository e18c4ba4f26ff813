"""The layer against numbers recorded from other implementations: outputs and every gradient."""

import golden_reader
import numpy as np

import switch_np as snp
from switch_np.switch import plan as plans


def test_recorded_layer_is_matched(golden):
    case = golden_reader.read(golden)
    out, cache = run(case)
    if case.plan is None and differs(case, out).any():
        out, cache = replayed(case, out)
    d_x, grads = snp.switch_layer.backward(
        case.upstream, cache, case.coef_balance / case.microbatches,
        case.coef_z / case.microbatches)

    want, t = case.arrays, case.tokens
    got = {"y": flat(out.y)[:t], "objective": objective(case, out)}
    for name, value in (("aux_loss", out.balance_loss), ("z_loss", out.z_loss)):
        if name in want:
            got[name] = value / case.microbatches
    for name, value in got.items():
        close(name, value, want[name].reshape(value.shape), case.tolerance)
    check_plan(case, out)
    grads = grads | {"x": flat(d_x)[:t]}
    assert {"x", "w_router", "w_in", "w_out"} <= set(case.grads)
    for name, value in case.grads.items():
        close(f"gradient of {name}", grads[name], value.reshape(grads[name].shape), case.tolerance)


def run(case):
    return snp.switch_layer.forward(case.params, case.x, case.config, plan=case.plan,
                                    padding=case.padding, noise=case.noise,
                                    training=case.training)


def differs(case, out):
    """Tell for each token whether the library chose other experts; padding may choose anything."""
    if "expert_index" not in case.arrays:
        return np.zeros(len(out.plan.expert), bool)
    theirs = np.sort(case.arrays["expert_index"].reshape(out.plan.expert.shape), axis=1)
    other = (theirs != np.sort(out.plan.expert, axis=1)).any(axis=1)
    return other if case.padding is None else other & ~case.padding.reshape(-1)


def replayed(case, out):
    """Replay the library's choices where ours differ by a tie alone."""
    margin = plans.margins(out.probs, out.plan).choice[differs(case, out)]
    assert margin.max() <= case.tolerance, f"another choice, by as much as {margin.max():.2g}"
    case.plan = golden_reader.recorded_plan(case)
    return run(case)


def objective(case, out):
    return ((out.y * case.upstream).sum() + (
        case.coef_balance * out.balance_loss + case.coef_z * out.z_loss) / case.microbatches)


def check_plan(case, out):
    """Compare who is kept, the slots and the gates, laid out over all experts."""
    want, plan, e = case.arrays, out.plan, case.config.num_experts
    if "kept" in want:
        expert = want["expert_index"].reshape(plan.expert.shape)
        mine = {"kept": plan.kept, "position": np.where(plan.kept, plan.slot, -1),
                "gate": np.where(plan.kept, out.gates, 0)}
        kept = want["kept"].reshape(plan.kept.shape)
        for name, value in mine.items():
            if name in want and not (name == "gate" and case.config.conventions.gate_gradient
                                     == "unit"):
                theirs = np.where(kept, want[name].reshape(kept.shape), -(name == "position"))
                close(name, spread(value, plan.expert, e), spread(theirs, expert, e),
                      case.tolerance)
    elif "dispatch_mask" in want:
        theirs = want["dispatch_mask"].any(axis=-1).reshape(-1, e)
        assert (spread(plan.kept, plan.expert, e) == theirs).all()
    if "capacity" in want and case.limited and case.config.factor(case.training) is not None:
        assert plan.capacity == int(want["capacity"])


def spread(value_TK, expert_TK, e):
    """Return (T, E): the values of each token's choices, at their experts."""
    found = np.zeros((len(value_TK), e), value_TK.dtype)
    rows = np.broadcast_to(np.arange(len(value_TK))[:, None], value_TK.shape)
    inside = (expert_TK >= 0) & (expert_TK < e)
    found[rows[inside], expert_TK[inside].astype(int)] = value_TK[inside]
    return found


def flat(x):
    return x.reshape(-1, x.shape[-1])


def close(name, got, want, tolerance):
    got, want = np.asarray(got, float), np.asarray(want, float)
    worst = np.abs(got - want).max(initial=0)
    assert worst <= tolerance * np.abs(want).max(initial=0), f"{name}: off by {worst:.2g}"
