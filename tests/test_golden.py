"""The layer against numbers recorded from other implementations: outputs and every gradient."""

import json
from pathlib import Path

import numpy as np
import pytest

import switch_np as snp

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.json"))


@pytest.mark.parametrize("name", CASES)
def test_recorded_layer_is_matched(name):
    sidecar = json.loads((GOLDEN / f"{name}.json").read_text())
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        want = dict(arrays)
    config = snp.SwitchConfig(
        num_experts=sidecar["dims"]["E"], capacity=int(want["capacity"]), groups="rows",
        router_bias="router_b" in want)
    params = {"w_router": want["router_w"], "w_in": want["wi"], "w_out": want["wo"]}
    if config.router_bias:
        params["b_router"] = want["router_b"]

    out, cache = snp.switch_layer.forward(params, want["x"], config)
    d_x, grads = snp.switch_layer.backward(
        want["R"], cache, float(want["coef_aux"]), float(want["coef_z"]))

    assert (out.plan.expert.ravel() == want["expert_index"].ravel()).all()
    assert (out.plan.kept.ravel() == want["kept"].ravel()).all()
    got = {"y": out.y, "probs": out.probs.reshape(want["probs"].shape),
           "aux_loss": out.balance_loss, "dx": d_x, "d_router_w": grads["w_router"],
           "d_wi": grads["w_in"], "d_wo": grads["w_out"]}
    if "router_b" in want:
        got["d_router_b"] = grads["b_router"]
    if float(want["coef_z"]):
        got["z_loss"] = out.z_loss
    for key, value in got.items():
        assert np.abs(value - want[key]).max() <= 1e-12 * np.abs(want[key]).max(), key
