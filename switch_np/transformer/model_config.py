"""The options of a whole model: one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from switch_np.conventions import knobs
from switch_np.conventions.knobs import RATE, YES_NO, knob
from switch_np.operations import check
from switch_np.switch.config import SwitchConfig
from switch_np.transformer import designs


class StackConfig(NamedTuple):
    """The options in which encoder and decoder differ."""

    num_layers: int
    switch_every: int       # stride of the Switch layers among the blocks
    causal: bool            # whether a token attends only to itself and to the tokens before it
    cross: bool             # whether the blocks attend to the encoder's output, too

    def is_switch(self, layer: int) -> bool:
        """Whether block `layer`, counted from 0, has a Switch layer."""
        return self.switch_every > 0 and layer % self.switch_every == 1 % self.switch_every

    @property
    def switch_layers(self) -> tuple[int, ...]:
        """The numbers of the blocks that have a Switch layer."""
        return tuple(self.switch_range)

    @property
    def switch_range(self) -> range:
        """The same numbers, not listed: a config may ask for more blocks than fit a memory."""
        every = self.switch_every
        return range(1 % every, self.num_layers, every) if every else range(0)


@knobs.explained
@dataclass(frozen=True)
class ModelConfig:
    """The options of a Switch Transformer, decoder-only or encoder-decoder, validated.

    Examples
    --------
    >>> config = ModelConfig(num_layers=4, switch_every=2, num_encoder_layers=2)
    >>> [config.decoder.is_switch(layer) for layer in range(4)], config.switch_names
    ([False, True, False, True], ('encoder.1', 'decoder.1', 'decoder.3'))
    >>> ModelConfig.from_dict(config.to_dict()) == config
    True
    """

    vocab_size: int = knob(256, "V, number of token ids", "{}", least=1, about="256: bytes.")
    d_model: int = knob(32, "D, width of the residual stream", "{}", least=1)
    d_ff: int = knob(64, "F, width of the feed-forward networks", "{}", least=1)
    num_heads: int = knob(2, "H, attention heads", "{}", least=1)
    d_kv: int = knob(16, "A, width of a head", "{}", least=1)
    num_layers: int = knob(4, "Blocks of the decoder", "{}", least=1)
    num_encoder_layers: int = knob(0, "Blocks of the encoder", "{}", least=0,
                                   about="0: decoder-only.")
    switch_every: int = knob(2, "Stride n of the decoder's Switch layers", "{}", least=0, about="""
        Blocks 1, 1 + n, 1 + 2n ... (counted from 0) have one in place of the dense feed-forward
        network; 1: all; 0: none, the dense baseline.""")
    encoder_switch_every: int = knob(2, "Stride of the encoder's Switch layers", "{}", least=0)
    switch: SwitchConfig = field(
        default_factory=lambda: SwitchConfig(num_experts=16, eval_capacity_factor=2.0), metadata={
            "about": "The Switch layers' options, the experts' activation and dropout among them."})
    switch_attention: bool = knob(False, "Switch layers in attention, too", YES_NO, about="""In the
        self-attention of the blocks with a Switch layer, a Switch layer of the same options makes
        the queries, and another the keys and values (appendix A of the paper).""")
    activation: str = knob("relu", "Activation of the dense feed-forward networks", {
        "relu": "max(x, 0), as T5 1.0", "gelu": "x Φ(x)", "gelu_tanh": "its tanh form, as T5 1.1",
        "silu": "x σ(x)", "relu_squared": "max(x, 0)²"})
    gated: bool = knob(False, "A second product multiplies the activation", YES_NO,
                       about="T5 1.1 does that.")
    tie_embeddings: str = knob("all", "Matrices that are shared", {
        "all": "one table for both stacks and the head, whose input is divided by √D (T5 1.0)",
        "inputs": "one table for both stacks, and a head of its own (T5 1.1)",
        "none": "a table for each stack, and a head (transformers 5, untied)"})
    norm_epsilon: float = knob(1e-6, "Added to the mean square in the norms", "{}", least=0)
    dropout: float = knob(0.0, "Dropout in training", RATE, least=0, below=1, about="""Of the
        embedding, attention probabilities, hidden units of dense networks, each sublayer's output
        and the last norm's, as in T5.""")
    num_buckets: int = knob(32, "Buckets of relative positions", "{}", least=4)
    max_distance: int = knob(128, "Distance from which all share the last bucket", "{}", least=3)
    balance_coef: float = knob(0.01, "Coefficient α of the balance losses", "{}", least=0)
    z_coef: float = knob(0.0, "Coefficient of the router z-losses", "{}", least=0)
    router_losses: str = knob("sum", "The router's losses", {
        "sum": "each Switch layer adds its own (the paper)",
        "pooled": "each stack adds a balance loss, of the f and P over the tokens of all its Switch"
                  " layers, and the mean of its z-losses",
        "transformers": "pooled, but a stack of Switch blocks alone adds none"})
    init_scale: float = knob(0.1, "s of the initialization √(s / fan-in)", "{}", least=0)

    def __post_init__(self) -> None:
        knobs.validate(self)
        check.instance("switch", self.switch, SwitchConfig)
        if self.max_distance <= self.num_buckets // 2:
            raise ValueError(f"max_distance must be at least {self.num_buckets // 2 + 1} with "
                             f"num_buckets={self.num_buckets}, got {self.max_distance}")
        if self.switch_attention and self.num_heads * self.d_kv != self.d_model:
            raise ValueError(f"num_heads * d_kv must be d_model, {self.d_model}, with "
                             f"switch_attention, got {self.num_heads} * {self.d_kv}")
        if self.router_losses != "sum" and not self._can_pool():
            raise ValueError("router_losses must be 'sum' with the switch conventions that this "
                             f"config has, got {self.router_losses!r}: only a balance loss of the "
                             "tokens' own choices and probabilities can be pooled")

    def _can_pool(self) -> bool:
        """Whether the balance loss is of the tokens' own choices and probabilities."""
        has = self.switch.conventions
        own = has.balance_counts in ("first", "all") or (
            has.balance_counts == "plain_over_k" and self.switch.top_k == 1)
        return own and has.balance_probs == "full" and not has.second_balance and (
            has.balance_padding in ("mask_valid", "include")) and (
            has.balance_scale == "experts" and has.balance_groups == "same")

    @classmethod
    def like(cls, name: str, **overrides: Any) -> ModelConfig:
        """Return a model of the paper's table 9, or a published one; `overrides` replace fields.

        >>> ModelConfig.like("switch_base_8", num_layers=2, num_encoder_layers=2).switch_names
        ('encoder.1', 'decoder.1')
        """
        return cls(**designs.settings(name) | overrides)

    @property
    def encoder(self) -> StackConfig | None:
        """The encoder's options; None for a decoder-only model."""
        count = self.num_encoder_layers
        return StackConfig(count, self.encoder_switch_every, False, False) if count else None

    @property
    def decoder(self) -> StackConfig:
        """The decoder's options."""
        return StackConfig(self.num_layers, self.switch_every, True, self.num_encoder_layers > 0)

    @property
    def stacks(self) -> dict[str, StackConfig]:
        """The stacks by name, in the order in which they compute."""
        return {**({"encoder": self.encoder} if self.encoder else {}), "decoder": self.decoder}

    def is_switch(self, layer: int) -> bool:
        """Whether the decoder's block `layer` has a Switch layer."""
        return self.decoder.is_switch(layer)

    @property
    def switch_layers(self) -> tuple[int, ...]:
        """The numbers of the decoder's blocks that have a Switch layer."""
        return self.decoder.switch_layers

    @property
    def switch_names(self) -> tuple[str, ...]:
        """The names of all Switch layers, in the order in which the plans come.

        >>> ModelConfig(num_layers=2, switch_attention=True).switch_names
        ('decoder.1.q', 'decoder.1.kv', 'decoder.1')
        """
        parts = (".q", ".kv", "") if self.switch_attention else ("",)
        return tuple(f"{name}.{layer}{part}" for name, stack in self.stacks.items()
                     for layer in stack.switch_layers for part in parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Return the config that `to_dict` took apart; options that are missing get defaults."""
        check.instance("model config", values, Mapping)
        names = {f.name for f in fields(cls)}
        check.keys("model config", values, names & set(values) | {"switch"})
        check.keys("model config's switch", values["switch"],
                   {f.name for f in fields(SwitchConfig)})
        return cls(**{**values, "switch": SwitchConfig(**values["switch"])})


TIES = knobs.choices(ModelConfig)["tie_embeddings"]
