"""Hugging Face's `SwitchTransformersForConditionalGeneration`: its configuration and its arrays.

Source: transformers 5.23.0, models/switch_transformers. Its weights are PyTorch's: (out, in) for
each matrix, one tensor per expert. A stack's position bias is in its first block. An untied model
has a table per stack, a head, and `shared.weight`, which is never read. State dicts may hold NumPy
arrays or tensors of any library. Names and layout are the same for parameters and gradients; the
gradient of a tied table is the sum over its uses.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from switch_np.operations import check, tree
from switch_np.operations.adapters import to_numpy
from switch_np.switch.config import SwitchConfig
from switch_np.transformer.checks import check_params, check_size
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.model_parameters import shapes

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu",
               "gelu_pytorch_tanh": "gelu_tanh", "swish": "silu", "relu2": "relu_squared"}
# Our field, their field, and the default that holds where a config lacks it.
FIELDS = (("vocab_size", "vocab_size", 32128), ("d_model", "d_model", 768), ("d_kv", "d_kv", 64),
          ("d_ff", "d_ff", 2048), ("num_heads", "num_heads", 12), ("dropout", "dropout_rate", 0.1),
          ("num_encoder_layers", "num_layers", 12), ("norm_epsilon", "layer_norm_epsilon", 1e-6),
          ("num_buckets", "relative_attention_num_buckets", 32),
          ("max_distance", "relative_attention_max_distance", 128),
          ("balance_coef", "router_aux_loss_coef", 0.001), ("z_coef", "router_z_loss_coef", 0.001))
SWITCH_FIELDS = (("num_experts", "num_experts", 8), ("capacity", "expert_capacity", 64),
                 ("router_bias", "router_bias", False), ("jitter", "router_jitter_noise", 0.01),
                 ("expert_dropout", "dropout_rate", 0.1))
TIED = ("shared.weight", "decoder.embed_tokens.weight", "encoder.embed_tokens.weight",
        "lm_head.weight")      # of one table; the head's is its own where the inputs alone share
TABLES = {"all": 4, "inputs": 3, "none": 1}            # how many of these are one

# Their names by our paths: in full, below a stack, below a block. Layer {last} is a block's last.
NAMES = {
    "embedding.table": "decoder.embed_tokens.weight",
    "encoder_embedding.table": "encoder.embed_tokens.weight",
    "head.w_head": "lm_head.weight",
    "position_bias.table": "{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    "final_norm.scale": "{stack}.final_layer_norm.weight"}
NAMES |= {ours: "{stack}.block.{block}.layer." + theirs for ours, theirs in {
    "attention_norm.scale": "0.layer_norm.weight",
    **{f"attention.w_{name}": f"0.SelfAttention.{name}.weight" for name in "qkvo"},
    "cross_norm.scale": "1.layer_norm.weight",
    **{f"cross_attention.w_{name}": f"1.EncDecAttention.{name}.weight" for name in "qkvo"},
    "feed_forward_norm.scale": "{last}.layer_norm.weight",
    "feed_forward.w_in": "{last}.mlp.wi.weight",
    "feed_forward.w_out": "{last}.mlp.wo.weight",
    "switch.w_in": "{last}.mlp.experts.expert_{e}.wi.weight",
    "switch.w_out": "{last}.mlp.experts.expert_{e}.wo.weight",
    "switch.w_router": "{last}.mlp.router.classifier.weight",
    "switch.b_router": "{last}.mlp.router.classifier.bias"}.items()}


def config(values: Mapping[str, Any]) -> ModelConfig:
    """Return the config of a model whose `config.json` (or `config.to_dict()`) holds `values`.

    >>> config({"num_layers": 4, "num_sparse_encoder_layers": 2}).switch_names
    ('encoder.1', 'encoder.3', 'decoder.1', 'decoder.5', 'decoder.9')
    """
    check.instance("values", values, Mapping)
    name = values.get("dense_act_fn", "relu")
    check.choice("dense_act_fn", name, list(ACTIVATIONS))
    activation = ACTIVATIONS[name]
    fields, switch = ({ours: values.get(theirs, default) for ours, theirs, default in table}
                      for table in (FIELDS, SWITCH_FIELDS))
    encoder_layers, layers = fields["num_encoder_layers"], values.get("num_decoder_layers", 12)
    layers = encoder_layers if layers is None else layers
    return ModelConfig(
        **fields, num_layers=layers, activation=activation,
        switch_every=_stride(values, "decoder", layers),
        encoder_switch_every=_stride(values, "encoder", encoder_layers),
        switch=SwitchConfig.like("hf_switch", expert_activation=activation, **switch),
        tie_embeddings="all" if values.get("tie_word_embeddings", True) else "none",
        router_losses="transformers")


def config_values(config: ModelConfig) -> dict[str, Any]:
    """Return the values of a `config.json` from which transformers makes the same model.

    >>> config({"d_ff": 64}) == config(config_values(config({"d_ff": 64})))
    True
    """
    _check_config(config)
    names = (name for name, activation in ACTIVATIONS.items() if activation == config.activation)
    return {
        **{theirs: getattr(config.switch, ours) for ours, theirs, _ in SWITCH_FIELDS},
        **{theirs: getattr(config, ours) for ours, theirs, _ in FIELDS},
        "architectures": ["SwitchTransformersForConditionalGeneration"],
        "model_type": "switch_transformers", "is_encoder_decoder": True,
        "num_decoder_layers": config.num_layers, "dense_act_fn": next(names),
        "num_sparse_encoder_layers": config.num_encoder_layers // config.encoder_switch_every,
        "num_sparse_decoder_layers": config.num_layers // config.switch_every,
        "encoder_sparse_step": config.encoder_switch_every,
        "decoder_sparse_step": config.switch_every, "decoder_start_token_id": 0,
        "tie_word_embeddings": config.tie_embeddings == "all", "pad_token_id": 0, "eos_token_id": 1}


def config_for(state: Mapping[str, Any], config: ModelConfig) -> ModelConfig:
    """Return the config, with ties 'inputs', not 'none', if the state's stacks share a table.

    transformers 4 writes it so for T5 1.1: `shared.weight`, and a head of its own.
    """
    check.instance("state", state, Mapping)
    check.instance("config", config, ModelConfig)
    shares = TIED[0] in state and all(
        np.array_equal(to_numpy(state[name], name), to_numpy(state[TIED[0]], TIED[0]))
        for name in TIED[1:3] if name in state)
    return replace(config, tie_embeddings="inputs") if (
        shares and config.tie_embeddings == "none") else config


def params(state: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Return the parameters that a state dict holds, for a config from `config`.

    Its arrays or tensors are float32 or float64; bfloat16 comes as float32. Raises ValueError,
    naming an array that is missing, does not belong to the model, or does not fit it.
    """
    check.instance("state", state, Mapping)
    left, found, ties = dict(state), dict[str, np.ndarray](), config.tie_embeddings
    check_size("state", left, config)
    tables = [left.pop(name) for name in TIED[:TABLES[ties]] if name in left]
    if tables and ties != "none":
        left[TIED[0]] = tables[0]
    elif tables and not left.keys() & set(TIED[1:3]):
        left |= dict.fromkeys(TIED[1:3], tables[0])
    for ours, names in _names(config):
        if missing := [name for name in names if name not in left]:
            raise ValueError(f"state must hold {missing[0]!r} for {ours}, got no such name")
        arrays = [_transposed(ours, to_numpy(left.pop(name), name)) for name in names]
        found[ours] = np.stack(arrays) if _is_per_expert(ours) else arrays[0]
    if left:
        raise ValueError(f"state must hold nothing beyond the config's arrays, got {min(left)!r} "
                         f"and {len(left) - 1} more")
    made = tree.unflatten(found)
    check_params(made, config)
    return made


def state_dict(values: Mapping[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """Return parameters or gradients under transformers' names and in its layout.

    An untied `shared.weight` is zeros.

    >>> from switch_np import model
    >>> tiny = config({"d_model": 4, "d_kv": 2, "d_ff": 3, "num_heads": 2, "num_layers": 3,
    ...                "num_decoder_layers": 3, "num_experts": 2})
    >>> state = state_dict(model.init(np.random.default_rng(0), tiny), tiny)
    >>> state["encoder.block.1.layer.1.mlp.experts.expert_1.wi.weight"].shape
    (3, 4)
    """
    _check_config(config)
    flat, state = tree.flatten(values), dict[str, np.ndarray]()
    for ours, names in _names(config):
        arrays = flat[ours] if _is_per_expert(ours) else [flat[ours]]
        state |= {name: np.ascontiguousarray(_transposed(ours, array))
                  for name, array in zip(names, arrays)}
    if config.tie_embeddings == "none":
        state["shared.weight"] = np.zeros_like(state["lm_head.weight"])
    return state


def _names(config: ModelConfig) -> Iterator[tuple[str, list[str]]]:
    """Yield the path of each parameter, and its name there, or its names: one per expert."""
    for path in shapes(config):
        stack, _, rest = path.partition(".")
        block, _, leaf = rest.partition(".")
        name = NAMES[next(key for key in (path, rest, leaf) if key in NAMES)]
        if path == "embedding.table" and config.tie_embeddings != "none":
            name = TIED[0]
        last, experts = 1 + (stack == "decoder"), config.switch.num_experts
        yield path, [name.format(stack=stack, block=block, last=last, e=e)
                     for e in range(experts if _is_per_expert(path) else 1)]


def _is_per_expert(path: str) -> bool:
    return path.endswith((".switch.w_in", ".switch.w_out"))


def _transposed(path: str, array: np.ndarray) -> np.ndarray:
    """Return the matrix of a linear layer transposed; tables, scales and biases as they are."""
    return array.T if path.split(".")[-1].startswith("w_") else array


def _stride(values: Mapping[str, Any], stack: str, layers: int) -> int:
    """Return the stride of a stack's Switch layers, by default as transformers computes it."""
    if (given := values.get(f"{stack}_sparse_step")) is not None:
        return int(given)
    sparse = values.get(f"num_sparse_{stack}_layers", 3)
    return layers // sparse if sparse > 0 else layers


def _check_config(config: ModelConfig) -> None:
    """Refuse a model that transformers cannot compute."""
    check.instance("config", config, ModelConfig)
    same = SwitchConfig.like("hf_switch", expert_activation=config.activation, **{
        ours: getattr(config.switch, ours) for ours, _, _ in SWITCH_FIELDS})
    if (config.switch != same or config.gated or config.switch_attention or not config.encoder
            or config.router_losses != "transformers"
            or 0 in (config.switch_every, config.encoder_switch_every)
            or config.dropout != config.switch.expert_dropout):
        raise ValueError(
            "config must be one that transformers can compute: an encoder-decoder with Switch "
            "layers like 'hf_switch' in both stacks, not in attention, not gated, "
            "router_losses='transformers', and one rate of dropout for all")
