"""Generation: the same with a cache as without, in batches as alone, causal, and seeded."""

from dataclasses import replace

import numpy as np
import pytest
from support import TINY, model_problem

import switch_np as snp
from switch_np import generate as generation, model
from switch_np.generate import generate
from switch_np.operations import tree
from switch_np.training import selective
from switch_np.transformer.model_config import ModelConfig

SWITCH = dict(
    paper=snp.SwitchConfig(num_experts=3, capacity=1),
    attention=snp.SwitchConfig(num_experts=3, capacity=1),
    top_2=snp.SwitchConfig(num_experts=3, top_k=2, groups=2),
    transformers=snp.SwitchConfig.like("hf_switch", num_experts=3, capacity=2))


def problem(switch, encoder=0):
    """Return a config, parameters, a batch, and what an encoder reads as options of `generate`."""
    config = ModelConfig(**{**TINY, "d_kv": 2}, num_encoder_layers=encoder, switch=SWITCH[switch],
                         switch_attention=switch == "attention")
    params, batch = model_problem(3, config, b=3, s=4)
    source = dict(source=batch.source, source_padding=batch.source_padding) if encoder else {}
    return config, params, batch, source


def write(config, params, prompt, **options):
    return generate(params, config, prompt, 14, np.random.default_rng(1), **options)


@pytest.mark.parametrize("switch", SWITCH)
@pytest.mark.parametrize("encoder", [0, 2])
@pytest.mark.parametrize("options", [dict(temperature=0), dict(temperature=0.7, top_k=4),
                                     dict(window=5), dict(window=1), dict(stop=2)], ids=str)
def test_the_cache_changes_nothing(switch, encoder, options):
    config, params, batch, source = problem(switch, encoder)
    with_cache = write(config, params, batch.inputs, **source, **options)
    without = write(config, params, batch.inputs, cached=False, **source, **options)
    assert with_cache.tolist() == without.tolist()
    assert len(np.unique(with_cache)) > 2                    # it does write different tokens


@pytest.mark.parametrize("encoder, switch", [(0, "paper"), (2, "paper"), (2, "attention")])
def test_each_step_gives_the_logits_of_the_whole(encoder, switch):
    config, params, batch, source = problem(switch, encoder)
    config, padding = generation._without_capacity(config), batch.source_padding
    memory = model.encode(params, batch.source, config, padding) if encoder else None
    whole, _, _ = model.forward(params, batch.inputs, config, **source)
    past = None
    for n in range(batch.inputs.shape[1]):
        logits, past = model.decode(params, batch.inputs[:, n:n + 1], config, memory=memory,
                                    memory_padding=padding, past=past)
        np.testing.assert_allclose(logits[:, 0], whole[:, n], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("mode", ["bfloat16", "float16", "selective"])
@pytest.mark.parametrize("encoder", [0, 2])
def test_rounded_parameters_write_and_draw_without_rounding(mode, encoder, monkeypatch):
    config, params, batch, source = problem("paper", encoder)
    params = selective.stored(tree.apply(np.float32, params), mode)
    kinds, draw = set(), generation._draw
    monkeypatch.setattr(generation, "_draw", lambda logits, *rest: kinds.add(
        (type(logits), logits.dtype)) or draw(logits, *rest))
    with_cache = write(config, params, batch.inputs, **source)
    without = write(config, params, batch.inputs, cached=False, **source)
    assert with_cache.tolist() == without.tolist()
    assert kinds == {(np.ndarray, np.dtype(np.float64))}


def test_a_row_does_not_depend_on_the_others():
    config, params, batch, source = problem("paper", 2)
    together = write(config, params, batch.inputs, temperature=0, **source)
    for row in range(3):
        real = ~batch.source_padding[row]
        alone = write(config, params, batch.inputs[row], source=batch.source[row][real],
                      temperature=0)
        assert alone.tolist() == together[row].tolist()


def test_it_stops():
    config, params, batch, _ = problem("paper")
    greedy = write(config, params, batch.inputs, temperature=0)[:, 4:]
    stop = int(greedy[0, 3])
    stopped = write(config, params, batch.inputs, temperature=0, stop=stop)[:, 4:]
    for free, row in zip(greedy, stopped):
        end = int((free == stop).argmax()) if (free == stop).any() else len(row)
        assert row[:end].tolist() == free[:end].tolist() and (row[end:] == stop).all()
    alone = write(config, params, batch.inputs[0], temperature=0, stop=stop)
    assert len(alone) == 4 + 1 + int((greedy[0] == stop).argmax())


def test_a_capacity_with_top_2_lets_later_tokens_change_earlier_ones():
    """First choices fill the buffers before second ones, so a later token can push out a choice."""
    config = ModelConfig(**TINY, switch=snp.SwitchConfig(
        num_experts=3, top_k=2, capacity_factor=1.5))
    params, batch = model_problem(0, config, b=1, s=12, padded=False)

    def changed(config):
        logits, _, _ = model.forward(params, batch.inputs, config)
        seen = np.zeros(11, bool)
        for last in range(config.vocab_size):
            other = batch.inputs.copy()
            other[0, -1] = last
            moved, _, _ = model.forward(params, other, config)
            seen |= (abs(moved - logits)[0, :-1] > 1e-9).any(axis=1)
        return seen

    assert changed(config).any()
    assert not changed(generation._without_capacity(config)).any()
    first = replace(config, switch=replace(config.switch, top_k=1))
    assert not changed(first).any()           # one choice, served in order of position: causal


@pytest.mark.parametrize("options, message", [
    (dict(source=np.array([1])), "source must be None for a decoder-only model, got an array"),
    (dict(source_padding=np.array([True])), "source_padding must be None without a source"),
    (dict(window=0), "window must be at least 1, got 0"),
    (dict(stop=-1), "stop must be at least 0, got -1"),
    (dict(stop=7), "stop must be below 7, got 7")])
def test_it_says_what_is_wrong(options, message):
    config, params, batch, _ = problem("paper")
    with pytest.raises(ValueError, match=message):
        write(config, params, batch.inputs[0], **options)


@pytest.mark.parametrize("source, message", [
    (None, r"source must be token ids \(B, M\), got None"),
    (np.array([1]), "source must have as many rows as ids, 3, got 1")])
def test_an_encoder_wants_a_source(source, message):
    config, params, batch, _ = problem("paper", 2)
    with pytest.raises(ValueError, match=message):
        write(config, params, batch.inputs, source=source)


def test_generation_is_seeded_and_sees_its_window_alone():
    config = ModelConfig(**TINY, switch=snp.SwitchConfig(num_experts=3, capacity=1))
    params, _ = model_problem(0, config)
    prompt = np.array([1, 2, 3, 4])
    assert write(config, params, prompt).tolist() == write(config, params, prompt).tolist()
    greedy = write(config, params, prompt, temperature=0)
    assert greedy.tolist() == write(config, params, prompt, temperature=1.0, top_k=1).tolist()
    free = replace(config, switch=replace(config.switch, capacity=None, capacity_factor=None))
    for end in range(4, 18):                          # each token is the likeliest of the model
        logits, _, _ = model.forward(params, greedy[None, :end], free)
        assert logits[0, -1].argmax() == greedy[end]
    first, second = (write(config, params, np.array([start, 2, 3, 4]), window=3)
                     for start in (1, 5))
    assert second[4:].tolist() == first[4:].tolist()
