"""Presets: each makes a config that runs, says how it differs from the paper, and where from."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from conventions import golden_reader
import numpy as np
import pytest

import switch_np as snp
from switch_np import generate, model
from switch_np.conventions import knobs
from switch_np.conventions.libraries import PRESETS
from switch_np.training import trainer
from switch_np.training.corpus import Corpus
from switch_np.training.trainer import TrainConfig
from switch_np.transformer.model_config import ModelConfig

NAMES = ["paper", "mesh_tf", "mesh_tf_ntlb", "mesh_tf_top2", "flaxformer", "flaxformer_scatter",
         "hf_switch", "hf_switch_v4", "hf_mixtral", "hf_deepseek_v3", "deepspeed_top1",
         "deepspeed_top2", "deepspeed_topk", "deepspeed_topk_before_7986", "tutel", "st_moe",
         "lucidrains", "litgpt",
         "labml", "fairseq", "fairscale", "hf_nllb_moe", "vmoe", "megatron", "megablocks",
         "nanomoe"]
LAYERS = [path for path in sorted((Path(__file__).parents[1] / "golden").glob("*.json"))
          if not path.stem.startswith("hf_switch_model")]           # whole models, not layers


def test_all_libraries_are_there_with_source_and_weights():
    assert list(PRESETS) == NAMES and list(snp.presets())[:len(NAMES)] == NAMES
    for preset in snp.presets().values():
        assert preset.source and preset.weights
    assert {name for name in NAMES if snp.SwitchConfig.like(name).eval_capacity_factor == 2} == {
        "mesh_tf", "mesh_tf_ntlb", "mesh_tf_top2", "flaxformer", "flaxformer_scatter", "st_moe",
        "lucidrains", "nanomoe"}                     # recorded cases have one factor, their own
    factor = {name: snp.SwitchConfig.like(name).capacity_factor for name in NAMES}
    unlimited = {"hf_mixtral", "hf_deepseek_v3", "litgpt", "megatron"}
    exact = {"labml", "fairseq", "fairscale", "tutel", "megablocks", "hf_nllb_moe",
             *(name for name in NAMES if name.startswith("deepspeed"))}
    for name in NAMES:
        assert factor[name] == (None if name in unlimited else 1 if name in exact
                                else 1.05 if name == "vmoe" else 1.25)


def test_recorded_says_whether_a_case_proves_it():
    proven = {golden_reader.preset_name(json.loads(path.read_text())) for path in LAYERS}
    assert proven == {name for name, preset in snp.presets().items() if preset.recorded}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout, settings", [
    ("packed", {"capacity": 1}), ("buffers", {}),
    pytest.param("packed", {}, marks=pytest.mark.thorough),
    pytest.param("buffers", {"capacity": 1}, marks=pytest.mark.thorough)])
def test_every_preset_runs(name, dtype, layout, settings):
    """With 8 experts, in training and not; float32 stays float32, and nothing is written to."""
    rng = np.random.default_rng(0)
    config = snp.SwitchConfig.like(name, num_experts=8, layout=layout, **settings)
    params = snp.switch_layer.init(rng, d_model=4, d_ff=6, config=config, dtype=dtype)
    shapes = {key: value.shape for key, value in params.items()}
    assert shapes == snp.switch_layer.shapes(4, 6, config)
    x = rng.standard_normal((2, 5, 4)).astype(dtype)
    padding = rng.random((2, 5)) < 0.3
    for array in (x, padding, *params.values()):
        array.flags.writeable = False
    for training in (False, True):
        out, cache = snp.switch_layer.forward(params, x, config, padding=padding, rng=rng,
                                              training=training)
        d_x, grads = snp.switch_layer.backward(out.y, cache, np.float64(0.3), 0.01,
                                               d_probs=out.probs, d_logits=out.logits)
        assert out.y.shape == d_x.shape == x.shape
        floats = (*out[:-1], d_x, *grads.values())                            # without the plan
        assert {value.dtype for value in floats} == {np.dtype(dtype)}
        assert {key: value.shape for key, value in grads.items()} == shapes
    none, cache = snp.switch_layer.forward(params, x[:0], config, rng=rng)
    d_x, grads = snp.switch_layer.backward(none.y, cache, 0.01, 0.01)
    assert none.y.shape == (0, 5, 4) and not any(value.any() for value in grads.values())


CHANCE = {"mesh_tf_top2", "deepspeed_top1", "deepspeed_top2", "st_moe", "lucidrains", "labml",
          "fairseq", "fairscale", "nanomoe"}     # draw random numbers outside training too
TEXT = np.frombuffer(b"to be or not to be, that is the question: " * 9, np.uint8)
CORPUS = Corpus(TEXT[:300], TEXT[300:])


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_trains_is_measured_and_writes_in_a_model(name):
    config = ModelConfig(d_model=8, d_ff=8, d_kv=4, num_layers=2,
                         switch=snp.SwitchConfig.like(name, num_experts=8))
    run = trainer.start(config, TrainConfig(batch_size=2, seq_len=16), CORPUS)
    trainer.advance(run, CORPUS)
    before = run.noise_rng.bit_generator.state
    assert trainer.evaluate(run, CORPUS.held_out) == trainer.evaluate(run, CORPUS.held_out)
    assert run.noise_rng.bit_generator.state == before
    batch = model.Batch(*np.arange(32).reshape(2, 1, 16))

    def loss(seed):
        return float(model.loss(run.params, batch, config, rng=np.random.default_rng(seed)).total)

    assert loss(0) == loss(0)
    if name in CHANCE:
        with pytest.raises(ValueError, match="rng must be a Generator"):
            model.loss(run.params, batch, config)
    else:
        assert loss(0) == float(model.loss(run.params, batch, config).total)
    for cached in (True, False):
        written = generate.generate(run.params, config, TEXT[:9].astype(int), 4,
                                    np.random.default_rng(0), cached=cached)
        assert written.shape == (13,)


@pytest.mark.parametrize("name", sorted(CHANCE))
def test_a_model_draws_outside_training_what_its_layer_draws(name):
    always = name == "nanomoe"      # its noise is on the logits; the rest is for choices alone
    config = ModelConfig(
        num_layers=1, switch_every=1, d_model=8, d_ff=8, dropout=0.1, d_kv=4,
        switch=snp.SwitchConfig.like(name, num_experts=8, expert_dropout=0.0 if always else 0.5))
    params = model.init(np.random.default_rng(0), config)
    ids = np.arange(24).reshape(2, 12)
    _, _, cache = model.forward(params, ids, config, rng=np.random.default_rng(1))
    noise = cache.runs["decoder"].stack.noise
    assert noise.first is noise.last is noise.blocks[0].attention_out is None
    _, alone = snp.switch_layer.forward(params["decoder"]["0"]["switch"], np.zeros((2, 12, 8)),
                                        config.switch, rng=np.random.default_rng(1))
    for mine, want in zip(noise.blocks[0].switch, alone.noise):
        np.testing.assert_array_equal(mine, want)
    plans = [cache.runs["decoder"].stack.blocks[0].switch.plan]
    if always:
        with pytest.raises(ValueError, match="rng must be a Generator"):
            model.forward(params, ids, config, plans=plans)
    else:
        model.forward(params, ids, config, plans=plans)


@pytest.mark.parametrize("name", NAMES)
def test_differences_from_the_paper_are_true_to_the_fields(name):
    paper, config = snp.SwitchConfig.like("paper"), snp.SwitchConfig.like(name)
    sentences = config.differences(paper)
    flat = [{**asdict(c), **asdict(c.conventions)} for c in (config, paper)]
    told = {name: c for c in (config, config.conventions) for name in knobs.of(c)}
    differ = [key for key in flat[0] if key != "conventions" and flat[0][key] != flat[1][key]]
    assert len(sentences) == len(differ) and (bool(sentences) or name == "paper")
    for key in differ:
        topic = knobs.of(told[key])[key].topic
        mine, other = (knobs.describe(told[key], key, values[key]) for values in flat)
        assert f"{topic}: {mine}; the other: {other}." in sentences
    assert set(sentences) & set(paper.differences(config)) == set()
    assert config.differences(config) == []


def test_overrides_reach_both_configs_and_wrong_ones_are_named():
    config = snp.SwitchConfig.like("mesh_tf_top2", num_experts=16, second_policy="all")
    assert config.num_experts == 16 and config.conventions.second_policy == "all"
    with pytest.raises(ValueError, match="got 'second'"):
        snp.SwitchConfig.like("mesh_tf_top2", second="all")
    with pytest.raises(ValueError, match="name must be a preset, got 'mesh'"):
        snp.SwitchConfig.like("mesh")
    with pytest.raises(ValueError, match="got 'conventions'"):
        snp.SwitchConfig.like("mesh_tf", conventions=snp.Conventions())


@pytest.mark.parametrize("name, nearest", [
    ("mixtrol", "; did you mean 'mixtral'?"), ("mesh", "; did you mean 'mesh_tf'?"),
    ("nobody", ";"), (None, ";"), ([], ";")])
def test_an_unknown_preset_is_told_the_nearest(name, nearest):
    with pytest.raises(ValueError) as caught:
        snp.SwitchConfig.like(name)
    assert str(caught.value).endswith(f"got {name!r}{nearest} `presets()` lists them")


@pytest.mark.parametrize("name", NAMES)
def test_a_model_config_goes_through_json(name):
    config = ModelConfig(switch=snp.SwitchConfig.like(name, num_experts=8))
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_papers_room_brings_but_the_leaves_of_conventions_along():
    program = """
import sys
from switch_np.switch import layer
print(sorted(name for name in sys.modules if name.startswith("switch_np.conventions.")))
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          cwd=Path(snp.__file__).parents[1], check=True).stdout.strip() == str(
        [f"switch_np.conventions.{leaf}" for leaf in (
            "families", "knobs", "layouts", "libraries", "presets", "table")])
