"""The options of a whole model: one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from switch_np.conventions.table import CHOICES
from switch_np.operations import check
from switch_np.switch.config import SwitchConfig

TIES = ("all", "inputs", "none")
ROUTER_LOSSES = ("sum", "pooled", "transformers")


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
        return tuple(filter(self.is_switch, range(self.num_layers)))


@dataclass(frozen=True)
class ModelConfig:
    """The options of a Switch Transformer, decoder-only or encoder-decoder, validated.

    Parameters
    ----------
    vocab_size
        V, number of token ids; 256 for bytes.
    d_model, d_ff, num_heads, d_kv
        Width of the residual stream and of the feed-forward networks; number of heads, and width of
        each.
    num_layers, num_encoder_layers
        Number of blocks of the decoder, and of the encoder; 0: decoder-only.
    switch_every, encoder_switch_every
        Blocks 1, 1 + n, 1 + 2n ... (counted from 0) have a Switch layer in place of the dense
        feed-forward network; 1: all; 0: none, the dense baseline.
    switch
        The Switch layers' own options, expert dropout and the experts' activation among them.
    activation, gated
        Of the dense feed-forward networks: "relu" (T5 1.0), "gelu", "gelu_tanh" or "silu"; gated,
        a second product multiplies the activation (T5 1.1: "gelu_tanh", gated).
    tie_embeddings
        Which matrices are shared: "all", one table for both stacks and the output head (T5 1.0,
        which then divides the head's input by √D); "inputs", one table for both stacks, and a
        separate head (T5 1.1); "none", a table for each stack, and a head (transformers 5, untied).
    norm_epsilon
        Added to the mean square in the norms.
    dropout
        Rate of dropout in training: embedding, attention probabilities, hidden units of dense
        feed-forward networks, each sublayer's output, and the last norm's, as in T5.
    num_buckets, max_distance
        Relative position buckets, and the distance from which on all share the last.
    balance_coef, z_coef
        α of equation 4, and the factor of the router z-loss.
    router_losses
        "sum": each Switch layer adds its own (the paper). "pooled": each stack adds one balance
        loss, of the f and P over the tokens of all its Switch layers, and the mean of its z-losses;
        "transformers": the same, but a stack in which every block is a Switch block adds none.
    init_scale
        s of the initialization √(s / fan-in).

    Examples
    --------
    >>> config = ModelConfig(num_layers=4, switch_every=2, num_encoder_layers=2)
    >>> [config.decoder.is_switch(layer) for layer in range(4)], config.switch_names
    ([False, True, False, True], ('encoder.1', 'decoder.1', 'decoder.3'))
    >>> ModelConfig.from_dict(config.to_dict()) == config
    True
    """

    vocab_size: int = 256
    d_model: int = 32
    d_ff: int = 64
    num_heads: int = 2
    d_kv: int = 16
    num_layers: int = 4
    num_encoder_layers: int = 0
    switch_every: int = 2
    encoder_switch_every: int = 2
    switch: SwitchConfig = field(default_factory=lambda: SwitchConfig(
        num_experts=16, eval_capacity_factor=2.0))
    activation: str = "relu"
    gated: bool = False
    tie_embeddings: str = "all"
    norm_epsilon: float = 1e-6
    dropout: float = 0.0
    num_buckets: int = 32
    max_distance: int = 128
    balance_coef: float = 0.01
    z_coef: float = 0.0
    router_losses: str = "sum"
    init_scale: float = 0.1

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "d_ff", "num_heads", "d_kv", "num_layers"):
            check.integer(name, getattr(self, name), 1)
        for name in ("num_encoder_layers", "switch_every", "encoder_switch_every"):
            check.integer(name, getattr(self, name), 0)
        check.instance("switch", self.switch, SwitchConfig)
        check.choice("activation", self.activation, CHOICES["expert_activation"])
        check.flag("gated", self.gated)
        check.choice("tie_embeddings", self.tie_embeddings, TIES)
        check.choice("router_losses", self.router_losses, ROUTER_LOSSES)
        check.number("dropout", self.dropout, 0, 1)
        check.integer("num_buckets", self.num_buckets, 4)
        check.integer("max_distance", self.max_distance, self.num_buckets // 2 + 1)
        for name in ("norm_epsilon", "balance_coef", "z_coef", "init_scale"):
            check.number(name, getattr(self, name), 0)
        check.plain(self)
        if self.router_losses != "sum" and not self._can_pool():
            raise ValueError(f"router_losses must be 'sum' with the switch conventions that this "
                             f"config has, got {self.router_losses!r}: only a balance loss of the "
                             f"tokens' own choices and probabilities can be pooled")

    def _can_pool(self) -> bool:
        """Whether the balance loss is of the tokens' own choices and probabilities."""
        conventions = self.switch.conventions
        return (conventions.balance_padding in ("mask_valid", "include")
                and not conventions.second_balance and conventions.balance_probs == "full"
                and conventions.balance_counts in ("first", "all"))

    @property
    def encoder(self) -> StackConfig | None:
        """The encoder's options; None for a decoder-only model."""
        if not self.num_encoder_layers:
            return None
        return StackConfig(self.num_encoder_layers, self.encoder_switch_every, False, False)

    @property
    def decoder(self) -> StackConfig:
        """The decoder's options."""
        return StackConfig(self.num_layers, self.switch_every, True, self.num_encoder_layers > 0)

    @property
    def stacks(self) -> dict[str, StackConfig]:
        """The stacks by name, in the order in which they compute."""
        encoder = {"encoder": self.encoder} if self.encoder else {}
        return {**encoder, "decoder": self.decoder}

    def is_switch(self, layer: int) -> bool:
        """Whether the decoder's block `layer` has a Switch layer."""
        return self.decoder.is_switch(layer)

    @property
    def switch_layers(self) -> tuple[int, ...]:
        """The numbers of the decoder's blocks that have a Switch layer."""
        return self.decoder.switch_layers

    @property
    def switch_names(self) -> tuple[str, ...]:
        """The names of all Switch layers, in the order in which the plans come."""
        return tuple(f"{name}.{layer}" for name, stack in self.stacks.items()
                     for layer in stack.switch_layers)

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
