"""The options of training: what a model is asked, for how long, at which rate and precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from switch_np.operations import check
from switch_np.training import selective
from switch_np.training.adafactor import Adafactor
from switch_np.training.optimizer import AdamW

TASK_NAMES = ["lm", "span", "pairs"]         # what they are: see `tasks`


@dataclass(frozen=True)
class TrainConfig:
    """The options of training.

    Parameters
    ----------
    task
        What the model is asked: "lm", the byte that follows; "span", missing spans of text; or
        "pairs", the target to each source (`tasks`).
    steps, batch_size, seq_len
        Number of steps; windows (or pairs) per step; bytes per window (or ids per pair at most).
    corruption, mean_span
        Of missing spans: the share of bytes that are taken out, and the mean length of a span.
    learning_rate, warmup
        Peak of the rate, and the steps in which it rises; then it falls along a half cosine.
    max_norm
        Gradients are scaled down to this global norm.
    seed
        Of initialization, text and noise.
    dtype
        "float32" or "float64"; or "bfloat16", "float16", "selective": what `selective` makes of
        float32 parameters, which stay float32 between the steps.
    optimizer
        AdamW's own options, or Adafactor's; then the rate is what Adafactor says of it.
    """

    task: str = "lm"
    steps: int = 1200
    batch_size: int = 32
    seq_len: int = 64
    corruption: float = 0.15
    mean_span: float = 3.0
    learning_rate: float = 1e-2
    warmup: int = 100
    max_norm: float = 1.0
    seed: int = 0
    dtype: str = "float32"
    optimizer: AdamW | Adafactor = field(default_factory=AdamW)

    def __post_init__(self) -> None:
        check.choice("task", self.task, TASK_NAMES)
        for name in ("steps", "batch_size", "seq_len", "warmup"):
            check.integer(name, getattr(self, name), 1)
        check.integer("seed", self.seed, 0)
        check.number("learning_rate", self.learning_rate, 0)
        check.number("max_norm", self.max_norm, 0)
        check.number("corruption", self.corruption, 0, 1)
        check.number("mean_span", self.mean_span, 1)
        check.choice("dtype", self.dtype, list(selective.MODES))
        check.instance("optimizer", self.optimizer, AdamW, Adafactor)
        check.plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Return the config that `asdict` took apart; what an older one lacks has its default."""
        check.instance("train config", values, Mapping)
        names = {f.name for f in fields(cls)}
        check.keys("train config", values, names & set(values) | {"optimizer"})
        rule = Adafactor if "decay" in values["optimizer"] else AdamW
        return cls(**{**values, "optimizer": rule(**values["optimizer"])})
