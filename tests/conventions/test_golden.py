"""The layer against numbers recorded from other implementations: outputs and every gradient.

`pytest tests -k golden --golden DIR` takes any other folder of such cases.
"""

import json
import subprocess
import sys
from pathlib import Path

from conventions import golden_reader
from conventions.golden_reader import run
import numpy as np
import pytest

import switch_np as snp
from switch_np import plans

COPIES = Path(__file__).parents[1] / "golden"


def test_recorded_layer_is_matched(golden):
    check(golden_reader.read(golden))


def check(case):
    out, cache = run(case)
    if case.plan is None and flipped(case, out).any():
        out, cache = replayed(case, out)
    coef_balance, coef_z = (coef / case.microbatches for coef in case.coefs)
    d_x, grads = snp.switch_layer.backward(case.upstream, cache, coef_balance, coef_z)

    want = case.arrays
    check_plan(case, out)
    close("y", case.cut(out.y), want["y"], case.tolerance)
    for name, value in (("aux_loss", out.balance_loss), ("z_loss", out.z_loss)):
        if name in want:
            close(name, value / case.microbatches, want[name], case.tolerance)
    terms = out.y * case.upstream
    objective = terms.sum() + coef_balance * out.balance_loss + coef_z * out.z_loss
    assert abs(objective - want["objective"]) <= case.tolerance * abs(terms).sum(), "objective"
    assert {"x", "w_router", "w_in", "w_out"} <= set(case.grads)
    close("gradient of x", case.cut(d_x), case.grads["x"], case.tolerance)
    for name in set(case.grads) - {"x"}:
        close(f"gradient of {name}", grads[name], case.grads[name], case.tolerance)


def flipped(case, out):
    """Tell for each token whether the library decided otherwise; padding may ask for anything."""
    if "kept" not in case.arrays:
        return np.zeros(len(out.plan.expert), bool)
    expert, kept = recorded(case, "expert_index", out), recorded(case, "kept", out)
    other = (np.sort(expert, axis=1) != np.sort(out.plan.expert, axis=1)).any(axis=1)
    if case.padding is not None and case.config.conventions.padding_routing == "left_out":
        other &= ~case.padding.reshape(-1)
    e = case.config.num_experts
    moved = spread(kept, expert, e) != spread(out.plan.kept, out.plan.expert, e)
    return other if other.any() else moved.any(axis=1)


def replayed(case, out):
    """Replay the library's decisions where ours differ by a tie alone."""
    firm = plans.margins(
        out.probs, out.plan, case.config,
        **(dict(logits_TE=out.logits, bias_E=case.params.get("select_bias"), noise=case.noise,
                padding_T=None if case.padding is None else case.padding.reshape(-1),
                training=case.training) if case.config.conventions != snp.Conventions() else {}))
    margin = np.minimum(firm.choice, firm.cut)[flipped(case, out)].max()
    assert margin <= case.tolerance, f"another decision, by as much as {margin:.2g}"
    case.plan = golden_reader.recorded_plan(case)
    return run(case)


def recorded(case, name, out):
    return case.arrays[name].reshape(out.plan.expert.shape)


def check_plan(case, out):
    """Compare who is kept, the slots and the gates, laid out over all experts."""
    want, plan, e = case.arrays, out.plan, case.config.num_experts
    if "kept" in want:
        expert, kept = recorded(case, "expert_index", out), recorded(case, "kept", out)
        assert (spread(kept, expert, e) == spread(plan.kept, plan.expert, e)).all(), "kept"
        if "position" in want:
            theirs = (recorded(case, "position", out) + 1) * kept
            assert (spread(theirs, expert, e)
                    == spread((plan.slot + 1) * plan.kept, plan.expert, e)).all(), "slots"
    elif "dispatch_mask" in want:                          # the experts chose
        expert, kept = plan.expert, np.take_along_axis(
            want["dispatch_mask"].any(axis=-1).reshape(-1, e), plan.expert, axis=1)
        if case.padding is not None:
            kept = kept & ~case.padding.reshape(-1, 1)
        assert (kept == plan.kept).all(), "kept"
    else:
        raise ValueError("the case records no choices")
    if "gate" in want and case.config.conventions.gate_gradient == "normal":
        close("gate", spread(out.gates * plan.kept, plan.expert, e),
              spread(recorded(case, "gate", out) * kept, expert, e), case.tolerance)
    limit = case.config.expert_capacity(plan.expert.shape[0] // len(plan.load), case.training)
    if "capacity" in want and case.limited and limit is not None:
        assert plan.capacity == int(want["capacity"]), "capacity"


def spread(value_TK, expert_TK, e):
    """Return (T, E): the values of each token's choices, at their experts."""
    found = np.zeros((len(value_TK), e), value_TK.dtype)
    token, choice = np.nonzero((expert_TK >= 0) & (expert_TK < e))
    found[token, expert_TK[token, choice].astype(int)] = value_TK[token, choice]
    return found


def close(name, got, want, tolerance):
    assert np.shape(got) == np.shape(want), f"{name}: shape {np.shape(got)}, want {np.shape(want)}"
    worst = np.abs(got - want).max(initial=0)
    assert worst <= tolerance * np.abs(want).max(initial=0), f"{name}: off by {worst:.2g}"


def changed(folder, name, field=None, value=None, array=None, scale=1.0):
    """Copy a case, one field of its sidecar or one array changed."""
    sidecar = json.loads((COPIES / f"{name}.json").read_text())
    place = next((part for part in (sidecar, sidecar["dims"], sidecar["conventions"])
                  if field in part), sidecar)
    if field:
        place[field] = value
    (folder / f"{name}.json").write_text(json.dumps(sidecar))
    with np.load(COPIES / f"{name}.npz") as stored:
        arrays = dict(stored)
    if array:
        arrays[array] = arrays[array] * scale
    np.savez(folder / f"{name}.npz", **arrays)
    return folder / f"{name}.json"


@pytest.mark.parametrize("array", ["y", "aux_loss", "z_loss", "dx", "d_router_w", "d_router_b",
                                   "d_wi", "d_wo", "gate"])
def test_a_wrong_record_is_seen(tmp_path, array):
    with pytest.raises((AssertionError, ValueError), match=r"off by|objective"):
        check(golden_reader.read(
            changed(tmp_path, "hf_switch__router_bias_drops", array=array, scale=1 + 1e-9)))


@pytest.mark.parametrize("name, field, value", [
    ("mesh_tf__switch_drops", "gating", "ntlb"), ("mesh_tf__switch_drops", "impl", "other"),
    ("hf_switch__drops", "precision", "bfloat16"),
    ("hf_mixtral__top2_E4", "activation", "tanh(x)"),
    ("deepspeed__top2_drops", "capacity_factor", 1.5),
    ("tutel__top2_drops", "normalize_gate", False),
    ("mesh_tf__top2_drops", "use_second_place_loss", True), ("labml__drops_scale", "k", 2),
    ("hf_switch_v4__4_57_1_drops", "dropped_passthrough", True),
    ("hf_deepseek_v3__g4_of8", "topk_group", 5), ("hf_deepseek_v3__g4_of8", "n_group", 4),
    ("flaxformer__masked_k2_bpr_drops", "batch_prioritized_routing", False),
    ("flaxformer__expert_choice_c1", "router", "masked"),
    ("st_moe__top2_drops", "straight_through_dispatch_tensor", False),
    ("flaxformer__scatter_k1_padding", "router", "masked"),
    ("mesh_tf__switch_padding", "impl", "flaxformer")])
def test_a_misread_sidecar_fails_loudly(tmp_path, name, field, value):
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(golden_reader.read(changed(tmp_path, name, field, value)))


def test_a_folder_without_cases_is_refused_once(tmp_path):
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", str(COPIES.parent), "-k", "golden",
                           "--golden", str(tmp_path)], text=True, capture_output=True,
                          cwd=COPIES.parents[1])
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.strip() == (f"ERROR: --golden must be a folder of recorded cases, got "
                                   f"{tmp_path}, which holds no .json")


def test_a_tie_that_the_library_broke_otherwise_is_replayed(tmp_path):
    """Two experts made equal: ours takes the lower index, the record the higher."""
    path = changed(tmp_path, "hf_mixtral__top2_E4")
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = dict(stored)
    arrays["router_w"][:, 1] = arrays["router_w"][:, 0]
    np.savez(path.with_suffix(".npz"), **arrays)
    case = golden_reader.read(path)
    out, _ = run(case)
    theirs = np.where(out.plan.expert == 0, 1, np.where(out.plan.expert == 1, 0, out.plan.expert))
    case.arrays |= {"expert_index": theirs, "kept": np.ones(theirs.shape, bool)}
    assert flipped(case, out).any()
    assert (replayed(case, out)[0].plan.expert == theirs).all()
    case.arrays["expert_index"] = (out.plan.expert + 2) % 4
    case.plan = None
    with pytest.raises(AssertionError, match="another decision"):
        replayed(case, out)


def test_input_that_was_filled_up_to_whole_groups(tmp_path):
    """Three of four sequences, filled up to four: the rest is zeros, and is cut off again."""
    name = "flaxformer__masked_k1_drops"
    path = changed(tmp_path, name)
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = dict(stored)
    for key in ("x", "R", "y", "dx"):
        arrays[key] = arrays[key][:3]
    arrays["objective"] = ((arrays["y"] * arrays["R"]).sum() + arrays["coef_aux"]
                           * arrays["aux_loss"] + arrays["coef_z"] * arrays["z_loss"])
    np.savez(path.with_suffix(".npz"), **arrays)
    case = golden_reader.read(path)
    assert case.x.shape == (4, 8, 6) and case.config.groups == 4 and not case.x[3].any()
    assert np.array_equal(case.cut(case.x), arrays["x"])
    assert run(case)[0].plan.load.sum(axis=1).tolist() == [8, 8, 8, 8]


def test_experts_of_a_torch_module():
    rng = np.random.default_rng(0)
    arrays = {"dx": np.zeros(1), "router_w": np.zeros((2, 3)), "d_router_w": np.zeros((2, 3))}
    shapes = {"0.weight": (10, 2), "0.bias": (10,), "1.mult_bias": (5,), "2.weight": (2, 5),
              "2.bias": (2,)}
    for e in range(3):
        for name, shape in shapes.items():
            for prefix in ("param:", "grad:"):
                arrays[f"{prefix}experts.experts.{e}.net.{name}"] = rng.standard_normal(shape)
    params, grads = golden_reader._parameters(arrays)
    assert set(params) == set(grads) - {"x"} == {
        "w_router", "w_in", "w_gate", "w_out", "b_in", "b_gate", "b_out", "hidden_scale"}
    first = arrays["param:experts.experts.1.net.0.weight"]
    assert np.array_equal(params["w_in"][1], first[:5].T)
    assert np.array_equal(params["w_gate"][1], first[5:].T)
    assert params["w_out"].shape == (3, 5, 2) and params["b_out"].shape == (3, 2)
    with pytest.raises(KeyError):
        golden_reader._parameters(arrays | {"d_router_scale": np.zeros(1)})


def test_random_numbers_that_were_recorded():
    drawn = np.random.default_rng(0).random((2, 8))
    found = golden_reader._drawn({"second_uniform": drawn}, "unif", 16, (2, 1))
    assert np.array_equal(found[:, 0], drawn.ravel())
    both = np.stack([drawn, drawn + 1])
    found = golden_reader._drawn({"uniform": both}, "unif", 16, (2, 1))
    assert np.array_equal(found[:, 1], drawn.ravel() + 1)
    assert golden_reader._drawn({"y": drawn}, "unif", 16, (1,)) is None


def test_a_policy_at_random_and_its_threshold_are_read(tmp_path):
    """Uniform numbers beside a record: the threshold that gives the recorded choices is found."""
    name = "mesh_tf__top2_threshold"
    path = changed(tmp_path, name, "second_policy", "random")
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = dict(stored)
    np.savez(path.with_suffix(".npz"), **arrays, second_policy_uniform=np.full((2, 8), 0.75))
    case = golden_reader.read(path)
    assert case.config.conventions.second_policy == "random" and case.noise.policy.shape == (16, 1)
    check(case)
    np.savez(path.with_suffix(".npz"), **arrays, second_policy_uniform=np.where(
        arrays["kept"][..., 1], 0.999, 0.001))
    with pytest.raises(ValueError, match="no threshold"):
        golden_reader.read(path)
