"""deepspeedai/DeepSpeed: tests/unit/moe/test_moe.py: dispatch masks and capacities of the gates."""

import numpy as np
import pytest
from peers.layers import like, on_logits, served

A = np.array([[.11, .2, .1, .3], [.3, .4, .11, .1], [.11, .1, .6, .5], [.1, .11, .7, .8]])
B = np.array([[.5858, .4801, .6269, .5397, .9722, .7034],
              [.5445, .6332, .4519, .6308, .0519, .6450],
              [.4874, .8110, .7467, .8474, .0277, .3068],
              [.8570, .6714, .5310, .3274, .4836, .9892]])
C = np.array([[.95, .85, .9, .8], [.7, .65, .75, .6], [.5, .55, .45, .4], [.35, .3, .25, .2]])
NOW, BEFORE = "deepspeed_topk", "deepspeed_topk_before_7986"
POSITION = {"priority": "token"}
MASKS = {  # (preset, further settings, logits, k): the experts of each token, in the masks' slots
    "probs, k = 2": (NOW, {}, A, 2, "1:0 | 0:0 1:1 | 2:0 3:0 | 2:1 3:1"),
    "probs, k = 2, before": (BEFORE, {}, A, 2, "1:0 | 0:0 1:1 | 2:0 3:0 | 2:1 3:1"),
    "probs, k = 3": (NOW, {}, B, 3, "2:0 4:0 | 1:0 3:0 5:0 | 1:1 2:1 3:1 | 0:0 5:1"),
    "probs, k = 3, before": (BEFORE, {}, B, 3, "2:0 4:0 5:0 | 3:0 | 1:0 2:1 3:1 | 0:0 1:1 5:1"),
    "position, k = 2": (NOW, POSITION, A, 2, "1:0 3:0 | 0:0 1:1 | 2:0 3:1 | 2:1"),
    "position, k = 3": (NOW, POSITION, B, 3, "2:0 4:0 5:0 | 1:0 3:0 5:1 | 1:1 2:1 3:1 | 0:0"),
    "no drops": (NOW, {"capacity_factor": None}, C, 2, "0:0 2:0 | 0:1 2:1 | 0:2 1:0 | 0:3 1:1")}


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("case", MASKS)
def test_masks_of_top_k(rank, case):
    """Each of two ranks has its multiple of the logits."""
    preset, settings, logits, k, want = MASKS[case]
    config = like(preset, logits.shape[1], top_k=k,
                  **{"capacity_factor": 1.0, "min_capacity": 1} | settings)
    plan = on_logits(logits * rank, config, training=True).plan
    assert plan.capacity == (2 if config.capacity_factor else 4)
    assert served(plan) == [(t, *map(int, choice.split(":")))
                            for t, row in enumerate(want.split(" | ")) for choice in row.split()]


@pytest.mark.parametrize("preset, settings, kept", [
    (NOW, {"top_k": 2, "capacity_factor": 2.0}, 16),
    ("deepspeed_top1", {"capacity_factor": 4.0, "priority": "choice"}, 8)])
def test_a_capacity_beyond_the_tokens_keeps_them_all(preset, settings, kept):
    logits = np.random.default_rng(0).standard_normal((8, 2))
    plan = on_logits(logits, like(preset, 2, min_capacity=0, **settings), training=True).plan
    assert (plan.capacity, plan.kept.sum()) == (16, kept)


@pytest.mark.parametrize("preset, e, tokens, settings, want", [
    (NOW, 2, 4, {"top_k": 1, "capacity_factor": 1.0, "min_capacity": 8}, 8),
    ("deepspeed_top1", 4, 3, {"capacity_factor": 8.0, "min_capacity": 0}, 6),
    ("deepspeed_top2", 4, 6, {"capacity_factor": 1.0, "min_capacity": 0}, 3)])
def test_capacities(preset, e, tokens, settings, want):
    assert like(preset, e, **settings).expert_capacity(tokens, training=True) == want
