"""Kernels that are right under other conventions are recognised."""

import numpy as np
import pytest
from oracle.explain.kernels import PLAIN, all_of, problem

import switch_np as snp
from switch_np import oracle


@pytest.mark.parametrize("config, other, words", [
    (("hf_mixtral", {}), {"renorm": "none"}, "as with renorm='none', want 'pre'"),
    (("st_moe", {}), {"balance_when": "always"}, "as with balance_when='always', want 'training'"),
    (("labml", {}), {"dropped": "zero"}, "as with dropped='zero', want 'gated_identity'"),
    (("paper", {"capacity": 7}), {"capacity": 8}, "as with 8 slots per expert, want 7")])
def test_other_conventions_are_recognised(config, other, words):
    name, options = config
    batch = {"batch": 2} if name in ("st_moe", "labml") else {}
    asked, ref = problem(snp.SwitchConfig.like(name, num_experts=4, **options), **batch)
    config = snp.SwitchConfig.like(name, num_experts=4, **options | other)
    got = oracle.reference(**asked | {"config": config})
    assert oracle.compare(ref, **all_of(got)).diagnosis[0] == words
    decided = {"expert": got.plan.expert, "kept": got.plan.kept}
    assert oracle.compare(ref, **all_of(got), **decided).diagnosis[0] == words


def test_weights_in_another_layout_are_recognised():
    asked, ref = problem(snp.SwitchConfig.like("hf_mixtral", num_experts=4))
    w = asked["params"]
    got = oracle.reference(**asked | {
        "params": {**w, "w_gate": w["w_in"], "w_in": w["w_gate"]}})
    swapped = all_of(got, w_gate=got.grads["w_in"], w_in=got.grads["w_gate"])
    assert oracle.compare(ref, **swapped).diagnosis == ("w_gate and w_in are swapped",)
    asked = oracle.draw(PLAIN, 32, d_model=4, d_ff=12)
    ref, w = oracle.reference(**asked), asked["params"]
    got = oracle.reference(**asked | {"params": {**w, "w_router": w["w_router"].T}})
    turned = all_of(got, w_router=got.grads["w_router"].T)
    assert oracle.compare(ref, **turned).diagnosis == ("w_router is used transposed",)
    report = oracle.compare(ref, **turned, expert=got.plan.expert)
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
    asked, ref = problem(snp.SwitchConfig.like("hf_mixtral", num_experts=4))
    got = oracle.reference(**asked | {"params": {**asked["params"], **change(asked["params"])}})
    assert oracle.compare(ref, **all_of(got)).diagnosis[0] == words
