"""google-research/t5x: adafactor_test, losses_test, examples/t5/layers_test.

Left out, as we have none of it: label smoothing, weights of targets, a bias per row of a batch, a
schedule of linear decay, matrices that Adafactor keeps whole, and states that no run reaches.
"""

import numpy as np
import pytest

from switch_np.training import adafactor, optimizer
from switch_np.training.adafactor import Adafactor
from switch_np.transformer import attention, cross_entropy

CONFIG = Adafactor(relative_step=False, scale_parameter=True)


@pytest.mark.parametrize("shape, clipped, row, column", [
    ((3, 2), False, .6169143, .9574349), ((2, 3), True, .478811, .13829)])
def test_step_of_a_factored_matrix(shape, clipped, row, column):
    """Their v_row belongs to the smaller axis. The norm of all gradients is the root of 6."""
    params, grads = {"x": np.ones(shape)}, {"x": np.ones(shape)}
    start = (.1, .9) if shape == (3, 2) else (.9, .1)
    moments = {"x": {"row": np.full(shape[0], start[0]), "column": np.full(shape[1], start[1])}}
    if clipped:
        grads, norm = optimizer.clip(grads, 1.0)
        assert norm == pytest.approx(6 ** .5)
    adafactor.step(params, grads, moments, CONFIG, .1, 2)
    np.testing.assert_allclose(moments["x"]["row"], row, rtol=2e-6)
    np.testing.assert_allclose(moments["x"]["column"], column, rtol=2e-6)
    np.testing.assert_allclose(params["x"], .9, rtol=1e-7)


def test_step_of_what_is_kept_whole_with_momentum():
    """There a matrix (3, 2), here a vector of as many."""
    params, moments = {"x": np.ones(6)}, {"x": {"v": np.full(6, .5), "m": np.zeros(6)}}
    config = Adafactor(relative_step=False, scale_parameter=True, beta_1=0.0)
    adafactor.step(params, {"x": np.ones(6)}, moments, config, .1, 2)
    for found, want in ((moments["x"]["v"], .787174), (moments["x"]["m"], .1), (params["x"], .9)):
        np.testing.assert_allclose(found, want, rtol=1e-6)


@pytest.mark.parametrize("shape", [(24, 16), (64, 64)])
def test_the_state_of_a_matrix_is_a_row_and_a_column(shape):
    moment = adafactor.init({"a": np.ones(shape)}, Adafactor())["a"]
    assert {name: v.shape for name, v in moment.items()} == {
        "row": shape[:1], "column": shape[1:]}


def test_the_number_of_real_targets_divides_the_loss():
    targets = np.array([1, 2, 3, 4, 0, 5, 6, 0, 0, 0])
    loss, cache = cross_entropy.forward(np.zeros((10, 8)),
                                        np.where(targets == 0, cross_entropy.IGNORED, targets))
    assert cache.counted == 6 and float(loss) == pytest.approx(np.log(8), rel=1e-12)


def test_causal_mask():
    np.testing.assert_array_equal(attention.causal_mask(3, 3) == 0, np.tri(3))


@pytest.mark.parametrize("f", [20, 22])
def test_attention_of_seeded_weights(f):
    b, q, h, d, k = 2, 3, 4, 5, 6
    draw = np.random.RandomState(0).randn
    x, memory = draw(b, q, f), draw(b, k, f)
    w_q, w_k, w_v = (draw(f, h, d) for _ in range(3))
    w_o, bias = draw(h, d, f), draw(h, q, k)
    y, _ = attention.forward(
        {"w_q": w_q.reshape(f, -1), "w_k": w_k.reshape(f, -1), "w_v": w_v.reshape(f, -1),
         "w_o": w_o.reshape(-1, f)}, x, memory, bias)
    logits = np.einsum("bqf,fhd,bkg,ghd->bhqk", x, w_q, memory, w_k, optimize=True) + bias
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    want = np.einsum("bhqk,bkf,fhd,hdg->bqg", p, memory, w_v, w_o, optimize=True)
    np.testing.assert_allclose(y, want, rtol=1e-10, atol=1e-10)
