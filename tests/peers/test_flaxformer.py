"""google/flaxformer 399ea3a: moe/routing_test, moe/moe_layers_test, components' tests.

Inputs and weights come from JAX's seeds (flax 0.12.8, legacy random flags). The peer routes in
bfloat16: "logits" hands its own over, "bfloat16" starts from tokens and weights, "float64" has
bfloat16's room and its own near ties.
"""

import numpy as np
import pytest
from peers.layers import facts, like, on_logits, random_layer, served, weights

import switch_np as snp
from switch_np import Noise, plans
from switch_np.operations.precision import round_to
from switch_np.switch import balance_loss, feed_forward
from switch_np.transformer import position_bias

ULP = 2.0 ** -8
MODES = pytest.mark.parametrize("mode", ["logits", "bfloat16", "float64"])


def run(name, mode, preset="flaxformer", **settings):
    """Return what the router of a preset makes of a recorded case."""
    f = facts("flaxformer", name)
    g, t, d = f["x"].shape
    precision = "bfloat16" if mode in ("logits", "bfloat16") else None
    if settings.get("chooser") == "experts":
        settings |= {"balance_counts": "none"}
    config = like(preset, f["w"].shape[1], groups=g, **settings)
    padding = None if f["mask"] is None else f["mask"] == 0
    if mode in ("logits", "rounded"):
        return on_logits(f["logits"].reshape(g, t, -1), config, precision, padding=padding)
    params = random_layer(config, d, 4) | {"w_router": f["w"]}
    jitter = f["jitter"].reshape(g * t, d).astype(float)
    return snp.switch_layer.forward(snp.switch_layer.in_precision(params, None, precision), f["x"],
                                    config, padding=padding, noise=Noise(jitter=jitter))[0]


def check(out, mode, balance, z, kept=None):
    """Compare losses, and the gate of each kept (token, expert), None for any."""
    room = 2e-2 if mode == "float64" else 8e-3
    assert [float(out.balance_loss), float(out.z_loss)] == pytest.approx([balance, z], rel=room)
    if mode != "float64" and kept is not None:
        found = weights(out)
        assert {(t, e) for t, e, _ in served(out.plan)} == set(kept)
        for place, gate in kept.items():
            assert gate is None or found[place] == pytest.approx(gate, rel=2 * ULP), place


SCATTER = {  # for each token its (expert, slot)s; the peer numbers on past the capacity
    "1, batch": (
        "scatter1", {"capacity": 2, "priority": "batch"},
        [[(2, 1)], [(3, 0)], [(2, 0)], [(2, 2)], [(3, 0)], [(2, 1)], [(3, 1)], [(2, 0)]],
        [.25390625, .2578125, .25585938, 0, .2578125, .25390625, .25585938, .25585938],
        1.0166016, 1.8994141),
    "1": (
        "scatter1", {"capacity": 2},
        [[(2, 0)], [(3, 0)], [(2, 1)], [(2, 2)], [(3, 0)], [(2, 0)], [(3, 1)], [(2, 1)]],
        [.25390625, .2578125, .25585938, 0, .2578125, .25390625, .25585938, .25585938],
        1.0166016, 1.8994141),
    "2, batch": (
        "scatter1", {"top_k": 2, "capacity": 2, "priority": "batch"},
        [[(2, 1), (3, 2)], [(3, 0), (2, 3)], [(2, 0), (3, 1)], [(2, 2), (0, 0)],
         [(3, 0), (2, 2)], [(2, 1), (3, 3)], [(3, 1), (2, 3)], [(2, 0), (3, 2)]],
        [.25390625, 0, .2578125, 0, .25585938, .25390625, 0, .25,
         .2578125, 0, .25390625, 0, .25585938, 0, .25585938, 0], 2.0289307, 1.8994141),
    "2, padding": (
        "pad", {"top_k": 2, "capacity": 1, "priority": "batch"},
        [[(0, s), (1, s)] for s in (4, 0, 1, 5, 2, 3, 3, 0, 1, 4, 2, 5)], None,
        1.1676432, .48541257)}


@MODES
@pytest.mark.parametrize("case", SCATTER)
def test_scatter_router(mode, case):
    name, settings, want, gates, balance, z = SCATTER[case]
    out = run(name, mode, "flaxformer_scatter", **settings)
    check(out, mode, balance, z)
    if mode == "float64":
        return
    expert, slot = np.moveaxis(np.array(want), -1, 0)
    np.testing.assert_array_equal(out.plan.expert, expert)
    np.testing.assert_array_equal(out.plan.slot, np.where(slot < settings["capacity"], slot, -1))
    if gates is not None:
        kept = np.where(out.plan.kept, out.gates, 0)
        np.testing.assert_allclose(kept.ravel(), gates, rtol=ULP)


MASKED = {
    **{f"1, {priority}": (
        "mask1", {"capacity": 1, "priority": priority},
        {(0, 0): .5078125, (1, 1): .50390625, (3, 0): .50390625, (4, 1): .5078125},
        1.0006511, .47721353) for priority in ("batch", "choice")},
    "2": ("mask2", {"top_k": 2, "capacity": 1, "priority": "batch"},
          {(0, 0): .33203125, (0, 2): .3359375, (1, 1): .3359375, (4, 0): .33007812,
           (4, 1): .34179688, (5, 2): .3359375}, 2.001709, 1.2714844),
    "2, padding": ("pad", {"top_k": 2, "capacity": 1, "priority": "batch"},
                   {(1, 0): .50390625, (1, 1): .49804688, (7, 0): .50390625, (7, 1): .49414062},
                   .6951497, .48541257)}


@MODES
@pytest.mark.parametrize("case", MASKED)
def test_masked_router(mode, case):
    name, settings, kept, balance, z = MASKED[case]
    check(run(name, mode, **settings), mode, balance, z, kept)


CHOSEN = [(0, 0, 1), (0, 1, 0), (1, 1, 1), (2, 0, 0), (4, 0, 0), (5, 0, 1), (6, 1, 0), (7, 1, 1)]


@MODES
@pytest.mark.parametrize("case, settings, want, z", [
    ("expert", {"capacity": 2}, CHOSEN, .5041504),
    ("pad", {"capacity": 1, "padding_routing": "first_experts"},
     [(1, 0, 0), (1, 1, 0), (7, 0, 0), (8, 1, 0)], .48541257)])
def test_experts_choose(mode, case, settings, want, z):
    out = run(case, mode, chooser="experts", **settings)
    check(out, mode, 0, z)
    assert mode == "float64" or served(out.plan) == want


def test_experts_choose_by_rounded_scores():
    """Probabilities tie in bfloat16, and the first token wins: also float64's, once rounded."""
    out = run("expert", "rounded", chooser="experts", capacity=2, select_precision="bfloat16")
    assert served(out.plan) == CHOSEN


@MODES
def test_scatter_and_mask_agree(mode):
    mask, scatter = (run("equal", mode, preset, capacity=2, priority="batch")
                     for preset in ("flaxformer", "flaxformer_scatter"))
    assert served(mask.plan) == served(scatter.plan)
    np.testing.assert_array_equal(mask.gates, scatter.gates)
    assert mask.balance_loss == scatter.balance_loss and mask.z_loss == scatter.z_loss


def test_balance_loss():
    f = facts("flaxformer", "balance")
    plan = plans.from_choices(f["idx"], like("flaxformer", 2, capacity=5))
    assert float(balance_loss.forward(f["probs"], plan)[0]) == pytest.approx(.8741045, abs=1e-6)


LAYER = [[-5.4286949e-07, -9.7972497e-07], [-2.8485384, -2.0157995], [-3.3071041, -2.3111360],
         [0, 0], [-4.8432793e-07, -8.7407409e-07], [-5.3204980e-07, -9.6019858e-07],
         [-7.4125074e-07, -1.3377468e-06], [1.3946553, 1.0524274], [-1.5633354, -1.0680735],
         [-6.9210348, -4.8458524], [4.6841961e-01, 3.9556113e-01],
         [-4.6012778e-07, -8.3039981e-07], [0, 0], [8.1172025e-01, 5.8894420e-01],
         [-1.7119075, -1.1470584], [-5.5547832e-07, -1.0024803e-06]]


@pytest.mark.parametrize("preset", ["flaxformer", "flaxformer_scatter"])
def test_whole_layer(preset):
    """There the router is mocked: noise on logits of 0 stands for its logits. x is bfloat16."""
    f = facts("flaxformer_layer")
    config = like(preset, 2, top_k=2, capacity_factor=1.0, eval_capacity_factor=1.0, groups=2,
                  priority="batch", expert_biases=True, logit_noise="normal")
    params = {"w_router": np.zeros((2, 2)), "w_in": f["wi"], "b_in": f["bi"], "w_out": f["wo"],
              "b_out": f["bo"]}
    out, _ = snp.switch_layer.forward(params, round_to(f["x"].reshape(16, 2), "bfloat16"), config,
                                      noise=Noise(logits=f["logits"].reshape(16, 2)))
    assert out.plan.capacity == 4
    np.testing.assert_allclose(out.y, LAYER, rtol=1e-5, atol=1e-6)


W_IN = [[-.26504874, -.93509436, -.09850478, -.36850071],
        [.4673574, .05847859, -.58711219, -.7413774]]
W_OUT = [[-.72784017, .66039181], [-.47138691, -.37511158], [-.15709186, .73998976],
         [-.70142865, -.29686236]]
WIDE = [[.54901946, -.76154424, .29080564], [.82477176, -.37039435, .14754923],
        [-.49294296, .34858352, -.27896377], [-.55651903, -.87406093, .63477963]]


@pytest.mark.parametrize("w_out, want", [
    (W_OUT, [[-.14724837, .13360298], [-.48740986, .44224197], [-.29449674, .26720595], [0, 0]]),
    (WIDE, [[.11107139, -.15406699, .0588325], [.36765969, -.50998032, .19474266],
            [.22214277, -.30813399, .11766499], [0, 0, 0]])])
def test_dense_block(w_out, want):
    x = np.array([[1, 1], [1, 2], [2, 2], [3, 1]], float)
    y, _ = feed_forward.forward({"w_in": np.array(W_IN), "w_out": np.array(w_out)}, x)
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("both, want", [(True, [-.10940, -.22087, .27360, -.31798]),
                                        (False, [-.10940, -.22087, -.18996, .3660492])])
def test_relative_position_bias(both, want):
    table = np.array(facts("flaxformer")["rel"]).T
    bias, _ = position_bias.forward({"table": table}, 5, 7, max_distance=10, bidirectional=both)
    have = [bias[0, 0, 0], bias[1, 2, 1], bias[1, 4, 6], bias[2, 4, 6]]
    np.testing.assert_allclose(have, want, atol=1e-5)
