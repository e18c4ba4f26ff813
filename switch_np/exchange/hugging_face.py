"""Hugging Face's `SwitchTransformersForConditionalGeneration`: its configuration and its arrays.

Source: transformers 5.23.0, models/switch_transformers. Its weights are PyTorch's, (out, in) for
each matrix, one tensor per expert; the position bias of a stack is that of its first block. Untied,
it keeps a table for each stack, a head, and `shared.weight`, which nothing reads.

What goes in may be NumPy arrays or tensors of any library. What comes out serves parameters and
gradients alike: with a tied table both have one array for it, and for gradients that is their sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from switch_np.operations import check, tree
from switch_np.oracle.truth.adapters import to_numpy
from switch_np.switch.config import SwitchConfig
from switch_np.transformer.checks import check_params
from switch_np.transformer.model_config import ModelConfig
from switch_np.transformer.model_parameters import shapes

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu",
               "gelu_pytorch_tanh": "gelu_tanh", "swish": "silu"}
# Our field, its name there, and the default that a file without it means.
FIELDS = (("vocab_size", "vocab_size", 32128), ("d_model", "d_model", 768), ("d_kv", "d_kv", 64),
          ("d_ff", "d_ff", 2048), ("num_heads", "num_heads", 12),
          ("num_encoder_layers", "num_layers", 12), ("dropout", "dropout_rate", 0.1),
          ("num_buckets", "relative_attention_num_buckets", 32),
          ("max_distance", "relative_attention_max_distance", 128),
          ("norm_epsilon", "layer_norm_epsilon", 1e-6),
          ("balance_coef", "router_aux_loss_coef", 0.001), ("z_coef", "router_z_loss_coef", 0.001))
SWITCH_FIELDS = (("num_experts", "num_experts", 8), ("capacity", "expert_capacity", 64),
                 ("router_bias", "router_bias", False), ("jitter", "router_jitter_noise", 0.01),
                 ("expert_dropout", "dropout_rate", 0.1))
ATTENTION = {"w_q": "q", "w_k": "k", "w_v": "v", "w_o": "o"}
FEED_FORWARD = {"w_in": "wi", "w_out": "wo"}


def config(values: Mapping[str, Any]) -> ModelConfig:
    """Return the config of a model whose `config.json` (or `config.to_dict()`) holds `values`.

    Examples
    --------
    >>> found = config({"num_layers": 4, "num_sparse_encoder_layers": 2, "num_experts": 16})
    >>> found.switch_names
    ('encoder.1', 'encoder.3', 'decoder.1', 'decoder.5', 'decoder.9')
    """
    check.instance("values", values, Mapping)
    check.choice("dense_act_fn", values.get("dense_act_fn", "relu"), list(ACTIVATIONS))
    activation = ACTIVATIONS[values.get("dense_act_fn", "relu")]
    mine = {ours: values.get(theirs, default) for ours, theirs, default in FIELDS}
    switch = {ours: values.get(theirs, default) for ours, theirs, default in SWITCH_FIELDS}
    layers = values.get("num_decoder_layers", 12)
    layers = mine["num_encoder_layers"] if layers is None else layers
    return ModelConfig(
        **mine, num_layers=layers, activation=activation,
        switch_every=_stride(values, "decoder", layers),
        encoder_switch_every=_stride(values, "encoder", mine["num_encoder_layers"]),
        switch=SwitchConfig.like("hf_switch", expert_activation=activation, **switch),
        tie_embeddings="all" if values.get("tie_word_embeddings", True) else "none",
        router_losses="transformers")


def config_values(config: ModelConfig) -> dict[str, Any]:
    """Return the values from which transformers makes the same model.

    >>> config({"d_ff": 64}) == config(config_values(config({"d_ff": 64})))
    True
    """
    _refuse_others(config)
    values = {theirs: getattr(config.switch, ours) for ours, theirs, _ in SWITCH_FIELDS}
    values |= {theirs: getattr(config, ours) for ours, theirs, _ in FIELDS}
    sparse = {name: kind.num_layers // kind.switch_every for name, kind in config.stacks.items()}
    return values | {
        "architectures": ["SwitchTransformersForConditionalGeneration"],
        "model_type": "switch_transformers", "is_encoder_decoder": True,
        "num_decoder_layers": config.num_layers,
        "num_sparse_encoder_layers": sparse["encoder"],
        "num_sparse_decoder_layers": sparse["decoder"],
        "encoder_sparse_step": config.encoder_switch_every,
        "decoder_sparse_step": config.switch_every,
        "dense_act_fn": next(theirs for theirs, ours in ACTIVATIONS.items()
                             if ours == config.activation),
        "tie_word_embeddings": config.tie_embeddings == "all",
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}


def params(state: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Return the parameters that a state dict holds.

    Parameters
    ----------
    state
        Their names, with arrays or tensors of float32 or float64 (bfloat16 comes as float32).
    config
        From `config`.

    Raises
    ------
    ValueError
        Naming the arrays that are missing, that nothing takes, or that do not fit.
    """
    check.instance("state", state, Mapping)
    wanted = dict(_names(config))
    found: dict[str, np.ndarray] = {}
    used = {"shared.weight"} | (TIED if config.tie_embeddings == "all" else set())
    for ours, theirs in wanted.items():
        names = [theirs] if isinstance(theirs, str) else theirs
        if ours == "embedding.table" and config.tie_embeddings == "all":
            names = [next((n for n in ["shared.weight", *sorted(TIED)] if n in state), names[0])]
        if missing := [name for name in names if name not in state]:
            raise ValueError(f"state must hold {missing[0]!r} for {ours}, got no such name")
        parts = [_turned(ours, to_numpy(state[name])) for name in names]
        found[ours] = parts[0] if isinstance(theirs, str) else np.stack(parts)
        used.update(names)
    if extra := sorted(set(state) - used):
        raise ValueError(f"state must hold nothing beyond the config's arrays, got {extra[0]!r}"
                         f" and {len(extra) - 1} more")
    made = tree.unflatten(found)
    check_params(made, config)
    return made


def state_dict(values: Mapping[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
    """Return parameters or gradients under their names and in their layout.

    Untied, `shared.weight` is zeros: it is never read, and so has no gradient.

    Examples
    --------
    >>> from switch_np import model
    >>> tiny = config({"vocab_size": 9, "d_model": 4, "d_kv": 2, "d_ff": 3, "num_heads": 2,
    ...                "num_layers": 2, "num_decoder_layers": 2, "num_sparse_encoder_layers": 1,
    ...                "num_sparse_decoder_layers": 1, "num_experts": 2})
    >>> state = state_dict(model.init(np.random.default_rng(0), tiny), tiny)
    >>> state["encoder.block.1.layer.1.mlp.experts.expert_1.wi.weight"].shape
    (3, 4)
    """
    _refuse_others(config)
    flat = tree.flatten(values)
    state: dict[str, np.ndarray] = {}
    for ours, theirs in _names(config):
        parts = [flat[ours]] if isinstance(theirs, str) else flat[ours]
        names = [theirs] if isinstance(theirs, str) else theirs
        state |= {name: np.ascontiguousarray(_turned(ours, part))
                  for name, part in zip(names, parts)}
    if config.tie_embeddings == "none":
        state["shared.weight"] = np.zeros_like(state["lm_head.weight"])
    return state


TIED = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}


def _names(config: ModelConfig) -> Iterator[tuple[str, str | list[str]]]:
    """Yield the path of every parameter, and its name there: a list of one per expert."""
    tied = config.tie_embeddings == "all"
    outer = {"embedding.table": "shared.weight" if tied else "decoder.embed_tokens.weight",
             "encoder_embedding.table": "encoder.embed_tokens.weight",
             "head.w_head": "lm_head.weight"}
    for path in shapes(config):
        if path in outer:
            yield path, outer[path]
            continue
        stack, *middle, leaf = path.split(".")
        if middle == ["final_norm"]:
            yield path, f"{stack}.final_layer_norm.weight"
        elif middle == ["position_bias"]:
            yield path, f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        else:
            layer, part = middle
            yield path, _in_block(f"{stack}.block.{layer}.layer", stack, part, leaf, config)


def _in_block(block: str, stack: str, part: str, leaf: str,
              config: ModelConfig) -> str | list[str]:
    """Return the name of one parameter of a block."""
    last = 2 if stack == "decoder" else 1
    norms = {"attention_norm": 0, "cross_norm": 1, "feed_forward_norm": last}
    if part in norms:
        return f"{block}.{norms[part]}.layer_norm.weight"
    if part == "attention":
        return f"{block}.0.SelfAttention.{ATTENTION[leaf]}.weight"
    if part == "cross_attention":
        return f"{block}.1.EncDecAttention.{ATTENTION[leaf]}.weight"
    if part == "feed_forward":
        return f"{block}.{last}.mlp.{FEED_FORWARD[leaf]}.weight"
    if leaf in FEED_FORWARD:
        return [f"{block}.{last}.mlp.experts.expert_{e}.{FEED_FORWARD[leaf]}.weight"
                for e in range(config.switch.num_experts)]
    return f"{block}.{last}.mlp.router.classifier." + ("bias" if leaf == "b_router" else "weight")


def _turned(path: str, array: np.ndarray) -> np.ndarray:
    """Return a matrix of a linear layer transposed; tables, scales and biases as they are."""
    return array.T if path.split(".")[-1].startswith("w_") else array


def _stride(values: Mapping[str, Any], stack: str, layers: int) -> int:
    """Return the stride of a stack's Switch layers, by transformers' rule where it is unsaid."""
    if (said := values.get(f"{stack}_sparse_step")) is not None:
        return int(said)
    sparse = values.get(f"num_sparse_{stack}_layers", 3)
    return layers // sparse if sparse > 0 else layers


def _refuse_others(config: ModelConfig) -> None:
    """Refuse a model that transformers has no name for."""
    check.instance("config", config, ModelConfig)
    same = SwitchConfig.like("hf_switch", expert_activation=config.activation, **{
        ours: getattr(config.switch, ours) for ours, _, _ in SWITCH_FIELDS})
    if (config.switch != same or config.gated or not config.encoder
            or config.tie_embeddings == "inputs" or config.router_losses != "transformers"
            or 0 in (config.switch_every, config.encoder_switch_every)
            or config.dropout != config.switch.expert_dropout):
        raise ValueError("config must be one that transformers can compute: an encoder-decoder "
                         "with Switch layers like 'hf_switch' in both stacks, not gated, "
                         "tie_embeddings 'all' or 'none', router_losses='transformers', and one "
                         "rate of dropout for all")
