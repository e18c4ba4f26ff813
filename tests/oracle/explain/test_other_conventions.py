"""Kernels that are right under other conventions are recognised."""

import numpy as np
import pytest
from oracle.problems import PLAIN, all_of, judged, problem

from switch_np import SwitchConfig, oracle

MIXTRAL = SwitchConfig.like("hf_mixtral", num_experts=4)


@pytest.mark.parametrize("name, now, other, words", [
    ("hf_mixtral", {}, {"expert_activation": "gelu"},
     "computed with expert_activation='gelu', want 'silu'"),
    ("st_moe", {}, {"balance_when": "always"},
     "computed with balance_when='always', want 'training'"),
    ("labml", {}, {"dropped": "zero"}, "computed with dropped='zero', want 'gated_identity'"),
    ("gpt_oss", {"expert_limit": None}, {"expert_limit": 0.0},
     "computed with expert_limit=0.0, want None"),
    ("gpt_oss", {}, {"expert_silu_factor": 1.0},
     "computed with expert_silu_factor=1.0, want 1.702"),
    ("hf_mixtral", {}, {"expert_linear_offset": 1.0},
     "computed with expert_linear_offset=1.0, want 0.0"),
    ("paper", {"groups": 4}, {"groups": 4, "balance_groups": 1},
     "computed with balance_groups=1, want 'same'"),
    ("paper", {}, {"balance_groups": 4}, "computed with balance_groups=4, want 'same'"),
    ("paper", {"top_k": 2}, {"top_k": 2, "capacity_per_choice": True},
     "computed with 12 slots per expert, want 6"),
    ("paper", {"capacity": 4}, {"capacity": 5}, "computed with 5 slots per expert, want 4")])
def test_other_conventions_are_recognised(name, now, other, words):
    batch = {"batch": 2} if name in ("st_moe", "labml") else {}
    asked, ref = problem(SwitchConfig.like(name, num_experts=4, **now), 20, 6, 5, **batch)
    config = SwitchConfig.like(name, num_experts=4, **now | other)
    got = oracle.reference(**asked | {"config": config})
    assert judged(ref, all_of(got)).diagnosis[0] == words
    if name in ("paper", "hf_mixtral"):
        decided = {"expert": got.plan.expert, "kept": got.plan.kept}
        assert judged(ref, all_of(got) | decided).diagnosis[0] == words


def test_weights_in_another_layout_are_recognised():
    asked, ref = problem(MIXTRAL)
    w = asked["params"]
    got = oracle.reference(**asked | {"params": {**w, "w_gate": w["w_in"], "w_in": w["w_gate"]}})
    swapped = all_of(got, w_gate=got.grads["w_in"], w_in=got.grads["w_gate"])
    assert judged(ref, swapped).diagnosis == ("w_gate and w_in are swapped",)
    asked, ref = problem(PLAIN, 32, 4, 12)
    w = asked["params"]
    got = oracle.reference(**asked | {"params": {**w, "w_router": w["w_router"].T}})
    turned = all_of(got, w_router=got.grads["w_router"].T)
    assert judged(ref, turned).diagnosis == ("w_router is used transposed",)
    report = judged(ref, turned | {"expert": got.plan.expert})
    assert report.diagnosis[0] == "w_router is used transposed" and len(report.diagnosis) == 3


def read_as_halves(w):
    woven = np.stack([w["w_gate"], w["w_in"]], axis=3).reshape(4, 8, 24)
    return {"w_gate": woven[..., :12], "w_in": woven[..., 12:]}


def read_as_interleaved(w):
    both = np.concatenate([w["w_gate"], w["w_in"]], axis=2)
    return {"w_gate": both[..., ::2], "w_in": both[..., 1::2]}


@pytest.mark.parametrize("change, words", [
    (lambda w: {"w_in": w["w_in"].swapaxes(1, 2).reshape(w["w_in"].shape)},
     "w_in is reshaped where it should be transposed"),
    (lambda w: {"w_out": np.repeat(w["w_out"][:1], 4, axis=0)},
     "w_out of expert 0 is used for all experts"),
    (read_as_halves, "the fused w_gate and w_in are halves, want interleaved"),
    (read_as_interleaved, "the fused w_gate and w_in are interleaved, want halves"),
])
def test_weights_read_in_another_way_are_recognised(change, words):
    asked, ref = problem(MIXTRAL)
    got = oracle.reference(**asked | {"params": {**asked["params"], **change(asked["params"])}})
    assert judged(ref, all_of(got)).diagnosis[0] == words
