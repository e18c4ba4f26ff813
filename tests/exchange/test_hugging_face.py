"""Recorded models of transformers are matched; names, layouts and configs; what is refused.

`pytest tests -k golden --golden DIR` takes any other folder of records.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from exchange.golden_model import COPIES, check, read

from switch_np import model
from switch_np.exchange import hugging_face, pretrained_folder
from switch_np.operations import tree
from switch_np.transformer import attention, router_losses, stack
from switch_np.transformer.model_config import ModelConfig

TIED, UNTIED = (COPIES / f"hf_switch_model__{name}.json" for name in (
    "l2_tied", "l2_untied_padding"))
OURS = {"model_type": "switch_transformers"}
VALUES = dict(vocab_size=11, d_model=6, d_kv=2, d_ff=5, num_heads=3, num_layers=4,
              num_decoder_layers=3, num_sparse_encoder_layers=2, num_sparse_decoder_layers=1,
              num_experts=3, expert_capacity=2)


def test_a_golden_model_is_matched(golden_model):
    check(golden_model)


@pytest.mark.parametrize("path", [TIED, UNTIED], ids=["tied", "untied"])
def test_names_and_layout_go_round(path):
    config, params, _, arrays = read(path)
    state = hugging_face.state_dict(params, config)
    for name, array in state.items():
        if name != "shared.weight" or path is TIED:
            np.testing.assert_array_equal(array, arrays[f"param:{name}"])
    again = tree.flatten(hugging_face.params(state, config))
    assert list(again) == list(tree.flatten(params))
    assert hugging_face.config(hugging_face.config_values(config)) == config
    every = {**state, **dict.fromkeys(hugging_face.TIED, state.get("shared.weight"))}
    if path is TIED:                                # state_dict() of torch lists all four names
        hugging_face.params(every, config)


@pytest.mark.parametrize("array", ["logits", "encoder_last_hidden_state", "objective", "ce_loss",
                                   "encoder_aux_loss", "decoder_z_loss",
                                   "grad:encoder.final_layer_norm.weight",
                                   "grad:decoder.block.1.layer.1.EncDecAttention.k.weight",
                                   "router:encoder.block.1.layer.1.mlp.router:logits"])
def test_a_wrong_record_is_seen(tmp_path, array):
    with np.load(UNTIED.with_suffix(".npz")) as file:
        arrays = dict(file)
    arrays[array] = arrays[array] * (1 + 1e-8)
    np.savez(tmp_path / "case.npz", **arrays)
    (tmp_path / "case.json").write_text(UNTIED.read_text())
    with pytest.raises(AssertionError, match="off by"):
        check(tmp_path / "case.json")


@pytest.mark.parametrize("module, name, spoil", [
    (attention, "causal_mask", lambda mask: 0 * mask),
    (router_losses, "backward", lambda d: (d[0], 2 * d[1], d[2])),
    (router_losses, "backward", lambda d: (d[0], d[1], 0 * d[2])),
    (stack, "backward", lambda d: (*d[:2], d[2] if d[2] is None else 2 * d[2])),
])
def test_planted_bugs_are_seen(monkeypatch, module, name, spoil):
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: spoil(right(*args)))
    with pytest.raises(AssertionError, match="off by"):
        check(TIED)


def test_strides_follow_transformers():
    for values, want in (
            ({"num_layers": 12, "num_sparse_encoder_layers": 3}, 4),
            ({"num_layers": 3, "num_sparse_encoder_layers": 2}, 1),
            ({"num_layers": 2, "num_sparse_encoder_layers": 3}, 0),
            ({"num_layers": 4, "num_sparse_encoder_layers": 0}, 4),
            ({"num_layers": 4, "encoder_sparse_step": 3}, 3)):
        assert hugging_face.config(values).encoder_switch_every == want


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("encoder.final_layer_norm.weight"),
     "state must hold 'encoder.final_layer_norm.weight' for encoder.final_norm.scale"),
    (lambda s: s.pop("decoder.block.1.layer.2.mlp.experts.expert_2.wo.weight"),
     "state must hold 'decoder.block.1.layer.2.mlp.experts.expert_2.wo.weight'"),
    (lambda s: s.update(more=np.zeros(2)), "nothing beyond the config's arrays, got 'more'"),
    (lambda s: s.update({"shared.weight": np.zeros((3, 6))}), r"must have shape \(11, 6\)"),
    (lambda s: s.update({"shared.weight": np.zeros((11, 6), np.float32)}), "must be float32 like"),
])
def test_a_state_that_does_not_fit_is_refused(change, message):
    config = hugging_face.config(VALUES)
    state = hugging_face.state_dict(model.init(np.random.default_rng(0), config), config)
    change(state)
    with pytest.raises((ValueError, TypeError), match=message):
        hugging_face.params(state, config)


def test_one_shared_table_and_a_head_of_its_own_go_round(tmp_path):
    config = hugging_face.config({**VALUES, "tie_word_embeddings": False})
    one = replace(config, tie_embeddings="inputs")
    params = model.init(np.random.default_rng(0), one)
    state = hugging_face.state_dict(params, one)
    assert {"shared.weight", "lm_head.weight"} < set(state)
    assert "decoder.embed_tokens.weight" not in state
    assert hugging_face.config_for(state, config) == one
    untied = hugging_face.params(state, config)             # the config alone cannot tell
    for name in ("embedding", "encoder_embedding"):
        np.testing.assert_array_equal(untied[name]["table"], params["embedding"]["table"])
    tree.apply(np.testing.assert_array_equal, hugging_face.params(state, one), params)
    pretrained_folder.save(tmp_path, params, one)
    found = pretrained_folder.load(tmp_path)
    assert found.config == one
    tree.apply(np.testing.assert_array_equal, found.params, params)
    assert hugging_face.config_for(hugging_face.state_dict(untied, config), config) == config
    del state["lm_head.weight"]
    with pytest.raises(ValueError, match=r"state must hold 'lm_head\.weight' for head\.w_head"):
        hugging_face.params(state, one)


def test_models_that_transformers_lacks_are_refused():
    for config in (ModelConfig(), ModelConfig(num_encoder_layers=2)):
        with pytest.raises(ValueError, match="config must be one that transformers can compute"):
            hugging_face.config_values(config)
    with pytest.raises(ValueError, match="dense_act_fn must be one of 'relu'"):
        hugging_face.config({"dense_act_fn": "tanh"})


@pytest.mark.parametrize("config, index, message", [
    (None, None, r"config\.json must be a readable file"),
    ([], None, r"config\.json must be a JSON file, got .* an object, got list"),
    ({"model_type": "t5"}, None, "model_type must be one of 'switch_transformers', got 't5'"),
    *((OURS, index, r"index\.json must hold a 'weight_map' from names")
      for index in ({}, {"weight_map": 3}, {"weight_map": {"shared.weight": 3}})),
    (OURS, {"weight_map": {"shared.weight": "one"}}, "one must be a readable file, got"),
    (OURS, None, r"model\.safetensors must be a readable file, got"),
    ({**OURS, "num_layers": "x"}, None, r"config\.json must be of a Switch Transformer, got"),
    ({**OURS, "eos_token_id": []}, None, r"config\.json must be of a Switch .*IndexError")])
def test_folders_without_a_model_are_refused(tmp_path, config, index, message):
    assert not pretrained_folder.holds_checkpoint(tmp_path)
    for name, values in (("config.json", config), (pretrained_folder.SEVERAL, index)):
        if values is not None:
            (tmp_path / name).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        pretrained_folder.load(tmp_path)
