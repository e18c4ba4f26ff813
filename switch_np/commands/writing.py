"""What a trained model writes, as a person reads it: more text, filled-in spans, answers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from switch_np.generate import generate
from switch_np.training import span_corruption
from switch_np.training.trainer import Run
from switch_np.training.vocabulary import END, FIRST_SENTINEL, PAD, SENTINELS, decode, encode
from switch_np.transformer.model_config import ModelConfig

BLANK = "___"
START = np.array([PAD])


def visible(text: str) -> str:
    r"""Return the text with control characters, which a terminal obeys, spelled out; not newlines.

    >>> print(visible("a\tb\x1b[2J"))
    a\x09b\x1b[2J
    """
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda c: f"\\x{ord(c[0]):02x}", text)


def go_on(params: Any, config: ModelConfig, prompt: np.ndarray, length: int,
          rng: np.random.Generator, **options: Any) -> str:
    """Return the prompt and what the model writes after it, as text."""
    ids = generate(params, config, prompt, length, rng, **options)
    return bytes(ids[ids < PAD].tolist()).decode("utf-8", errors="replace")


def fill(params: Any, config: ModelConfig, text: str, rng: np.random.Generator,
         length: int = 200, **options: Any) -> str:
    """Return the text with every blank, `___`, filled in by the model."""
    parts = text.split(BLANK)
    if not 2 <= len(parts) <= SENTINELS + 1:
        raise ValueError(f"prompt must hold 1 to {SENTINELS} blanks, {BLANK}, for the model to "
                         f"fill in, got {len(parts) - 1}")
    source = np.concatenate([encode(parts[0]), *(
        np.append(FIRST_SENTINEL + n, encode(part)) for n, part in enumerate(parts[1:])), [END]])
    return decode(span_corruption.fill(source, _written(params, config, source, rng, length,
                                                        options)))


def answer(params: Any, config: ModelConfig, question: str, rng: np.random.Generator,
           length: int = 200, **options: Any) -> str:
    """Return the target that the model writes for a source."""
    source = np.append(encode(question), END)
    if config.encoder:
        return decode(_written(params, config, source, rng, length, options))
    ids = generate(params, config, source, length, rng, stop=END, **options)
    return decode(ids[len(source):])


def example(run: Run, held_out: Any) -> str:
    """Return a piece of held-out text and what the model makes of it, for the end of a run."""
    rng, model = np.random.default_rng(run.config.seed), (run.stored, run.model_config)
    if run.config.task == "lm":
        return go_on(*model, held_out[:32].astype(np.int64), 300, rng, temperature=0.7,
                     window=run.config.seq_len)
    if run.config.task == "pairs":
        return "\n".join(
            f"source: {pair.source.decode(errors='replace')}\n"
            f"answer: {answer(*model, pair.source, rng, temperature=0)}\n"
            f"target: {pair.target.decode(errors='replace')}" for pair in held_out[:5])
    windows = held_out[:3 * run.config.seq_len].reshape(-1, run.config.seq_len)
    batch = span_corruption.corrupt(rng, windows, run.config.corruption, run.config.mean_span)
    texts = []
    assert batch.source is not None
    for source, target in zip(batch.source, batch.targets):
        written = _written(*model, source, rng, 2 * len(target), {"temperature": 0})
        texts.append(f"before: {_marked(source, np.array([], int))}\n"
                     f"after:  {_marked(source, written)}\n"
                     f"text:   {_marked(source, target)}")
    return "\n\n".join(texts)


def _written(params: Any, config: ModelConfig, source: np.ndarray, rng: np.random.Generator,
             length: int, options: dict[str, Any]) -> np.ndarray:
    """Return what the decoder writes for a source, up to END."""
    ids = generate(params, config, START, length, rng, source=source, stop=END, **options)
    return ids[1:]


def _marked(source: np.ndarray, target: np.ndarray) -> str:
    """Return the text on one line, with brackets around the spans that a target puts back."""
    opened = np.concatenate([np.append(ids, ord("]")) for ids in _spans(target)] or [target])
    text = decode(span_corruption.fill(source, opened.astype(np.int64)))
    for n in range(SENTINELS):
        text = text.replace(f"<{n}>", f"[{BLANK}]")
    return text.replace("\n", "⏎")


def _spans(target: np.ndarray) -> list[np.ndarray]:
    """Return each sentinel with an opening bracket and its span, END left out."""
    target = target[(target != END) & (target != PAD)]
    starts = np.flatnonzero(target >= FIRST_SENTINEL)
    return [np.insert(span, 1, ord("[")) for span in np.split(target, starts)[1:]]
