"""Every suffixed local has the shape that its suffix says, one letter one size per call."""

import re
import sys
from pathlib import Path

import numpy as np
from judges import paper_loops as loops
from support import TINY, layer_problem, model_problem

import switch_np as snp
from switch_np import generate, model
from switch_np.plans import margins
from switch_np.transformer import position_bias
from switch_np.transformer.model_config import ModelConfig

ROOT = str(Path(snp.__file__).parent)
SUFFIX = re.compile(r"_([A-Z1]+)$")


def faults(name, value, sizes):
    """Yield what is wrong with one local, and note the sizes of its letters."""
    suffix = SUFFIX.search(name)
    if suffix is None or not isinstance(value, np.ndarray):
        return
    letters = suffix[1]
    if value.ndim != len(letters):
        yield f"{name} has shape {value.shape}"
        return
    for letter, size in zip(letters, value.shape):
        if (letter == "1" and size != 1) or sizes.setdefault(letter, size) != size:
            yield f"{name} has shape {value.shape}, where {letter} was {sizes.get(letter, 1)}"


def trace(call):
    """Return the faults in all functions of the package that `call` enters, and what it saw."""
    found, seen = set(), set()

    def on_event(frame, event, _):
        if event != "return" or not frame.f_code.co_filename.startswith(ROOT):
            return
        place = f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"
        sizes = {}
        for name, value in frame.f_locals.items():
            fields = zip(value._fields, value) if isinstance(value, tuple) and hasattr(
                value, "_fields") else [(name, value)]
            for field, inner in fields:
                found.update(f"{place}: {fault}" for fault in faults(field, inner, sizes))
                if SUFFIX.search(field):
                    seen.add((place, field))

    sys.setprofile(on_event)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found, seen


def representative_calls():
    for layout, groups in (("packed", "rows"), ("buffers", 2)):
        config = snp.SwitchConfig(num_experts=3, top_k=2, capacity_factor=0.9, groups=groups,
                                  layout=layout, router_bias=True, router_dropout=0.2, sample=True,
                                  expert_dropout=0.3)
        params, x, padding, noise = layer_problem(0, config, shape=(2, 7), padded=0.2)
        out, cache = snp.switch_layer.forward(params, x, config, padding=padding, noise=noise,
                                              training=True)
        snp.switch_layer.backward(x, cache, 0.3, 0.2)
        margins(out.probs, out.plan)
        loops.forward(params, x.reshape(14, 5), config, num_groups=2, padding_T=padding.ravel(),
                      noise=noise, training=True)
    model_config = ModelConfig(**TINY, dropout=0.1)
    params, batch = model_problem(0, model_config)
    model.loss_and_grads(params, batch, model_config, rng=np.random.default_rng(0), training=True)
    generate.generate(params, model_config, np.array([1, 2]), 3, np.random.default_rng(0))
    both = ModelConfig(**TINY, num_encoder_layers=2, gated=True, router_losses="pooled")
    params, batch = model_problem(0, both)
    model.loss_and_grads(params, batch, both, rng=np.random.default_rng(0), training=True)
    generate.generate(params, both, batch.inputs, 3, np.random.default_rng(0), source=batch.source,
                      source_padding=batch.source_padding)
    attends = ModelConfig(**{**TINY, "d_kv": 2}, switch_attention=True)
    params, batch = model_problem(0, attends)
    model.loss_and_grads(params, batch, attends)
    position_bias.forward({"table": np.ones((4, 3))}, 5, 2, 8, True)


def test_suffixes_say_the_shape():
    found, seen = trace(representative_calls)
    assert not found, "\n".join(sorted(found))
    assert len(seen) > 200          # it did look


def test_a_wrong_suffix_is_found():
    assert list(faults("x_TD", np.ones(3), {})) == ["x_TD has shape (3,)"]
    assert list(faults("max_T1", np.ones((3, 2)), {}))
    assert list(faults("x_TD", np.ones((3, 2)), {"T": 4}))
