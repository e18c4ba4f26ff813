"""The options of a whole model: one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from switch_np.operations import check
from switch_np.switch.config import SwitchConfig


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only Switch Transformer, validated when it is made.

    Parameters
    ----------
    vocab_size
        V, number of token ids; 256 for bytes.
    d_model, d_ff, num_heads, d_kv
        Width of the residual stream, of the feed-forward networks, number of heads, width of each.
    num_layers
        Number of blocks.
    switch_every
        Blocks 1, 1 + n, 1 + 2n ... (counted from 0) have a Switch layer in place of the dense
        feed-forward network; 1: all; 0: none, the dense baseline.
    switch
        The Switch layers' own options, expert dropout among them.
    dropout
        Rate of dropout in training: embedding, attention probabilities, hidden activation of dense
        feed-forward networks, each sublayer's output, and the last norm's, as in T5.
    num_buckets, max_distance
        Relative position buckets, and the distance from which on all share the last.
    balance_coef, z_coef
        α of equation 4, and the factor of the router z-loss; each Switch layer adds its own.
    init_scale
        s of the initialization √(s / fan-in).

    Examples
    --------
    >>> config = ModelConfig(num_layers=4, switch_every=2)
    >>> [config.is_switch(layer) for layer in range(4)]
    [False, True, False, True]
    >>> ModelConfig.from_dict(config.to_dict()) == config
    True
    """

    vocab_size: int = 256
    d_model: int = 32
    d_ff: int = 64
    num_heads: int = 2
    d_kv: int = 16
    num_layers: int = 4
    switch_every: int = 2
    switch: SwitchConfig = field(default_factory=lambda: SwitchConfig(
        num_experts=16, eval_capacity_factor=2.0))
    dropout: float = 0.0
    num_buckets: int = 32
    max_distance: int = 128
    balance_coef: float = 0.01
    z_coef: float = 0.0
    init_scale: float = 0.1

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "d_ff", "num_heads", "d_kv", "num_layers"):
            check.integer(name, getattr(self, name), 1)
        check.integer("switch_every", self.switch_every, 0)
        check.instance("switch", self.switch, SwitchConfig)
        check.number("dropout", self.dropout, 0, 1)
        check.integer("num_buckets", self.num_buckets, 4)
        check.integer("max_distance", self.max_distance, self.num_buckets)
        for name in ("balance_coef", "z_coef", "init_scale"):
            check.number(name, getattr(self, name), 0)

    def is_switch(self, layer: int) -> bool:
        """Whether block `layer`, counted from 0, has a Switch layer."""
        return self.switch_every > 0 and layer % self.switch_every == 1 % self.switch_every

    @property
    def switch_layers(self) -> tuple[int, ...]:
        """The numbers of the blocks that have a Switch layer."""
        return tuple(filter(self.is_switch, range(self.num_layers)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Return the config that `to_dict` took apart."""
        check.keys("model config", values, {f.name for f in fields(cls)})
        check.keys("model config's switch", values["switch"],
                   {f.name for f in fields(SwitchConfig)})
        return cls(**{**values, "switch": SwitchConfig(**values["switch"])})
