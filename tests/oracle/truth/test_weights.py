"""Parameters of transformers' layers under our names: each layout, and what wrong ones are told."""

from types import SimpleNamespace

import numpy as np
import pytest

from switch_np import SwitchConfig, oracle
from switch_np.conventions.families import FAMILIES
from switch_np.conventions.parameters import shapes
from switch_np.oracle.truth import weights as module

SIZES = {"E": 4, "D": 6, "F": 5, "S": 7, "1": 1, "2F": 10, "2S": 14, "EF": 20, "E+": 6}
QWEN = {"gate.weight": (4, 6), "experts.gate_up_proj": (4, 10, 6), "experts.down_proj": (4, 6, 5)}


def of(family, rng):
    """Return a layer's state dict with random numbers, by its layout."""
    found = {}
    lines = {line.ours: line for line in module._read(FAMILIES[family].weights)[0]}
    for line in lines.values():
        for e in range(4) if "{e}" in line.key else [0]:
            found[line.key.replace("{e}", str(e))] = rng.standard_normal(
                [SIZES[axis] for axis in line.axes])
    return found


def qwen(rng):
    return {name: rng.standard_normal(shape) for name, shape in QWEN.items()}


@pytest.mark.parametrize("family", [name for name, row in FAMILIES.items() if row.weights])
def test_every_family_has_the_parameters_of_its_preset_and_each_number_once(family, rng):
    theirs = of(family, rng)
    found = oracle.weights(family, theirs)
    flat = np.concatenate([np.ravel(part) for part in found.values()])
    kept = [part[:4] if key.endswith("gate_up_proj") else part for key, part in theirs.items()]
    np.testing.assert_array_equal(
        np.sort(flat), np.sort(np.concatenate([np.ravel(part) for part in kept])))
    for name, part in found.items():
        want = [SIZES[axis] for axis in module.OURS[name].split()]
        assert list(np.shape(np.stack(part) if isinstance(part, list) else part)) == want
    if not FAMILIES[family].alone:
        shared = "shared_w_in" in found
        config = SwitchConfig.like(family, num_experts=4, top_k=1, **(
            {"shared_experts": 1, "shared_width": 7} if shared else {}), **(
            {"router_bias": True} if "b_router" in found else {}))
        assert set(found) == set(shapes(6, 5, config))


def test_halves_and_columns_go_where_they_belong(rng):
    """By loops, for the two orders in which gate and up share one array."""
    both, bias = rng.standard_normal((4, 6, 10)), rng.standard_normal((4, 10))
    rest = {"router.weight": np.ones((4, 6)), "router.bias": np.ones(4),
            "experts.down_proj": np.ones((4, 5, 6)), "experts.down_proj_bias": np.ones((4, 6)),
            "experts.gate_up_proj": both, "experts.gate_up_proj_bias": bias}
    woven, halves = (oracle.weights(name, rest) for name in ("gpt_oss", "openai_privacy_filter"))
    for e, d, f in np.ndindex(4, 6, 5):
        assert woven["w_gate"][e, d, f] == both[e, d, 2 * f]
        assert woven["w_in"][e, d, f] == both[e, d, 2 * f + 1]
        assert woven["b_in"][e, f] == bias[e, 2 * f + 1]
        assert halves["w_gate"][e, d, f] == both[e, d, f]
        assert halves["w_in"][e, d, f] == both[e, d, 5 + f]
        assert halves["b_gate"][e, f] == bias[e, f]
    stacked = of("dbrx", rng)
    found = oracle.weights("dbrx", stacked)
    for e, d, f in np.ndindex(4, 6, 5):
        assert found["w_in"][e, d, f] == stacked["experts.mlp.v1"][5 * e + f, d]
        assert found["w_out"][e, f, d] == stacked["experts.mlp.w2"][5 * e + f, d]


def test_a_module_a_whole_model_or_the_experts_alone_will_do(rng):
    theirs = qwen(rng)
    want = oracle.weights("qwen3_moe", theirs)
    layer = SimpleNamespace(state_dict=lambda: theirs)
    model = {f"model.layers.3.mlp.{name}": value for name, value in theirs.items()}
    model["model.embed_tokens.weight"] = np.ones(3)
    for source in (layer, model):
        for name, value in oracle.weights("qwen3_moe", source).items():
            np.testing.assert_array_equal(value, want[name])
    bare = {name.removeprefix("experts."): theirs[name] for name in QWEN if "experts" in name}
    assert list(oracle.weights("qwen3_moe", bare)) == ["w_gate", "w_in", "w_out"]
    granite = of("granitemoeshared", rng)
    beside = {name if "shared" in name else f"block_sparse_moe.{name}": value
              for name, value in granite.items()}
    assert list(oracle.weights("granitemoeshared", beside)) == list(
        oracle.weights("granitemoeshared", granite))


def test_a_gradient_that_is_none_stays_none(rng):
    theirs = qwen(rng) | {"gate.weight": None}
    found = oracle.weights("qwen3_moe", theirs)
    assert found["w_router"] is None and found["w_in"].shape == (4, 6, 5)
    single = of("switch_transformers", rng) | {"experts.expert_1.wi.weight": None}
    found = oracle.weights("switch_transformers", single)
    assert [part is None for part in found["w_in"]] == [False, True, False, False]
    assert oracle.weights("qwen3_moe", dict.fromkeys(QWEN))["w_in"] is None


@pytest.mark.parametrize("family, change, message", [
    ("qwen3_moe", {"experts.down_proj": "gone"},
     r"must hold experts.down_proj of qwen3_moe, got gate.weight, experts.gate_up"),
    ("qwen3_moe", {"gate.weight": "gone", "gate.wieght": (4, 6)},
     r"must hold gate.weight of .*, got .*; did you mean 'gate.wieght'\?"),
    ("qwen3_moe", {"gate.bias": (4,)},
     r"nothing but gate.weight, experts.gate_up_proj, .* of qwen3_moe, got gate.bias"),
    ("qwen3_moe", {"gate.weight": (6, 4)}, r"gate.weight .* \(E, D\), got \(6, 4\): transposed"),
    ("qwen3_moe", {"experts.gate_up_proj": (4, 6, 10)},
     r"experts.gate_up_proj .* \(E, 2F, D\), got \(4, 6, 10\): transposed"),
    ("qwen3_moe", {"experts.down_proj": (4, 5, 6)}, r"experts.down_proj .*: transposed"),
    ("qwen3_moe", {"experts.gate_up_proj": (4, 9, 6)}, r"that fit each other, got gate.weight"),
    ("qwen3_moe", {"experts.down_proj": (6, 5)}, r"that fit each other"),
    ("qwen3_moe", {"layers.1.experts.gate_up_proj": (4, 10, 6)},
     r"one layer of qwen3_moe, got those of , layers.1."),
    ("mixtral", {"experts.gate_up_proj": "gone"}, r"hold experts.gate_up_proj of mixtral, got"),
    ("qwen3_mo", {}, r"family must be a folder .*got 'qwen3_mo'; did you mean 'qwen3_moe'"),
    ("doge", {}, r"got 'doge', whose product keys mix two tokens: not at all"),
    (None, {}, r"family must be a folder .*got None")])
def test_what_does_not_fit_is_named(family, change, message, rng):
    theirs = qwen(rng)
    for name, shape in change.items():
        if shape == "gone":
            del theirs[name]
        else:
            theirs[name] = np.ones(shape)
    with pytest.raises(ValueError, match=message):
        oracle.weights(family, theirs)


@pytest.mark.parametrize("source", [None, [1], np.ones(3)])
def test_what_is_neither_module_nor_dict_is_refused(source):
    with pytest.raises(TypeError, match="source must be"):
        oracle.weights("mixtral", source)


def report(ref, wrong, names, swaps):
    """Judge what a kernel gives that was loaded with wrong parameters, some in another's place."""
    got = oracle.reference(ref.problem.x, {**ref.problem.params, **wrong}, ref.problem.config,
                           d_y=ref.problem.d_y)
    grads = {**got.grads, **{mine: got.grads[other] for mine, other in swaps.items()}}
    return str(oracle.compare(ref, y=got.y, grads={name: grads[name] for name in names}))


@pytest.mark.thorough
def test_gate_and_up_in_each_others_place_are_told(rng):
    """Of the shared expert; those of the others are among the tests of the explanations."""
    theirs = of("qwen2_moe", rng)
    ref = oracle.reference(rng.standard_normal((24, 6)), oracle.weights("qwen2_moe", theirs),
                           "qwen2_moe", d_y=rng.standard_normal((24, 6)))
    gate, linear, params = "shared_w_gate", "shared_w_in", ref.problem.params
    told = report(ref, {gate: params[linear], linear: params[gate]}, ref.grads,
                  {gate: linear, linear: gate})
    assert f"{gate} and {linear} are swapped" in told
    both = np.concatenate([params[gate], params[linear]], -1)
    others = [name for name in ref.grads if name not in (gate, linear)]
    told = report(ref, {gate: both[..., ::2], linear: both[..., 1::2]}, others, {})
    assert f"the fused {gate} and {linear} are interleaved, want halves" in told
