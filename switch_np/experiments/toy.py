"""The experiments' models and text: the default toy, its dense counterpart, and wider models."""

from dataclasses import replace
from typing import Any

from switch_np.experiments import flops
from switch_np.training import corpus as corpora
from switch_np.training.corpus import Corpus
from switch_np.training.train_config import TrainConfig
from switch_np.transformer.model_config import ModelConfig


def switch(model: ModelConfig | None = None, **options: Any) -> ModelConfig:
    """Return a model (default: the toy) with other options of its Switch layers.

    >>> switch(top_k=2, capacity_factor=1.0).switch.top_k
    2
    """
    model = model or ModelConfig()
    return replace(model, switch=replace(model.switch, **options))


def dense(model: ModelConfig | None = None) -> ModelConfig:
    """Return the model without Switch layers: the same operations per token but for the router."""
    return replace(model or ModelConfig(), switch_every=0)


def large() -> ModelConfig:
    """Return a dense toy of twice the depth and more width: 3.4 times the operations of `dense`.

    T5-Large has 3.4 times those of T5-Base.
    """
    return replace(dense(), num_layers=8, d_model=46, d_kv=23, d_ff=92)


def plus() -> ModelConfig:
    """Return Switch+: factor 1.0, and as costly as a mixture of two experts at factor 2.0.

    >>> plus().d_model
    36
    """
    train = TrainConfig()
    return widened(switch(capacity_factor=1.0), switch(top_k=2, capacity_factor=2.0),
                   train.batch_size, train.seq_len)


def widened(model: ModelConfig, like: ModelConfig, batch_size: int, seq_len: int) -> ModelConfig:
    """Return `model`, its even heads widened until a step costs about as much as with `like`.

    >>> wide = widened(switch(capacity_factor=1.0), switch(capacity_factor=2.0), 32, 64)
    >>> wide.d_model, wide.d_kv, wide.d_ff
    (36, 18, 64)
    """
    goal, heads = flops.step(like, batch_size, seq_len), model.num_heads
    candidates = [replace(model, d_model=heads * width, d_kv=width)
                  for width in range(model.d_model // heads, 2 * model.d_model // heads + 1, 2)]
    return min(candidates, key=lambda each: abs(flops.step(each, batch_size, seq_len) - goal))


def text() -> Corpus:
    """Return the built-in text with 4 KB of its held-out part: enough for the points of a curve."""
    whole = corpora.load()
    return Corpus(whole.train, whole.held_out[:64 * 64 + 1])
