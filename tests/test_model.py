"""The model as it is called: integer types of targets, and gradients of logits that do not fit."""

import numpy as np
import pytest

from switch_np import model
from switch_np.switch.config import SwitchConfig
from switch_np.transformer.batch import Batch
from switch_np.transformer.model_config import ModelConfig

CONFIG = ModelConfig(num_layers=2, d_model=8, d_ff=8, d_kv=4, switch=SwitchConfig(num_experts=2))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint64, np.int32])
def test_targets_of_padding_do_not_count_whatever_their_type(dtype):
    params = model.init(np.random.default_rng(0), CONFIG)
    ids = np.random.default_rng(1).integers(0, 150, (2, 6))
    padding = np.arange(6)[None].repeat(2, axis=0) > 3
    want, found = (float(model.loss(params, Batch(ids, targets, padding), CONFIG).total)
                   for targets in (ids, ids.astype(dtype)))
    assert found == want


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: d.transpose(1, 0, 2), r"d_logits must have shape \(2, 6, 256\), got \(6, 2, 256\)"),
    (lambda d: d.reshape(12, 256), r"d_logits must have shape \(2, 6, 256\), got \(12, 256\)"),
    (lambda d: d.astype(np.float32), "d_logits must be float64 like the rest, got float32"),
    (lambda d: d.astype(int), "d_logits must hold float32 or float64 numbers, got int64"),
])
def test_gradients_of_logits_that_do_not_fit_are_refused(change, message):
    params = model.init(np.random.default_rng(0), CONFIG)
    logits, _, cache = model.forward(params, np.arange(12).reshape(2, 6), CONFIG)
    with pytest.raises((TypeError, ValueError), match=message):
        model.backward(change(np.ones(logits.shape)), cache)
