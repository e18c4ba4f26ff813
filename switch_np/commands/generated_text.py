"""What a trained model writes, as readable text: continuations, filled-in spans, answers."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from switch_np.generate import generate
from switch_np.training import span_corruption
from switch_np.training.trainer import Run
from switch_np.training.vocabulary import END, FIRST_SENTINEL, PAD, SENTINELS, decode, encode
from switch_np.transformer.model_config import ModelConfig

BLANK = "___"
Params = Mapping[str, Any]


def visible(text: str) -> str:
    r"""Return the text with control characters, which a terminal obeys, escaped; newlines stay.

    >>> print(visible("a\tb\x1b[2J"))
    a\x09b\x1b[2J
    """
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda c: f"\\x{ord(c[0]):02x}", text)


def continuation(params: Params, config: ModelConfig, prompt: np.ndarray, rng: np.random.Generator,
                 **options: Any) -> str:
    """Return the prompt and what the model writes after it; `options` go to `generate`."""
    ids = generate(params, config, prompt, rng=rng, **options)
    return bytes(ids[ids < PAD].tolist()).decode("utf-8", errors="replace")


def fill(params: Params, config: ModelConfig, text: str, rng: np.random.Generator,
         **options: Any) -> str:
    """Return the text with every blank, `___`, filled in by the model."""
    first, *rest = text.split(BLANK)
    if not 1 <= len(rest) <= SENTINELS:
        raise ValueError(f"prompt must hold 1 to {SENTINELS} blanks, {BLANK}, for the model to "
                         f"fill in, got {len(rest)}")
    source = np.concatenate([encode(first), *(
        np.append(FIRST_SENTINEL + n, encode(piece)) for n, piece in enumerate(rest)), [END]])
    return decode(span_corruption.fill(source, _decoded(params, config, source, rng, **options)))


def answer(params: Params, config: ModelConfig, question: str | bytes, rng: np.random.Generator,
           **options: Any) -> str:
    """Return the target that the model writes for a source."""
    source = np.append(encode(question), END)
    if config.encoder:
        return decode(_decoded(params, config, source, rng, **options))
    return decode(generate(params, config, source, rng=rng, stop=END, **options)[len(source):])


def example(run: Run, held_out: Any) -> str:
    """Return a piece of held-out text and what the model makes of it, for the end of a run."""
    rng, model = np.random.default_rng(run.config.seed), (run.stored, run.model_config)
    if run.config.task == "lm":
        return continuation(*model, held_out[:32].astype(np.int64), rng, length=300,
                            temperature=0.7, window=run.config.seq_len)
    if run.config.task == "pairs":
        return "\n".join(
            f"source: {pair.source.decode(errors='replace')}\n"
            f"answer: {answer(*model, pair.source, rng, length=200, temperature=0)}\n"
            f"target: {pair.target.decode(errors='replace')}" for pair in held_out[:5])
    windows = held_out[:3 * run.config.seq_len].reshape(-1, run.config.seq_len)
    batch = span_corruption.corrupt(rng, windows, run.config.corruption, run.config.mean_span)
    assert batch.source is not None
    return "\n\n".join(
        f"before: {_bracketed(source, np.array([], int))}\n"
        f"after:  {_bracketed(source, written)}\n"
        f"text:   {_bracketed(source, target)}"
        for source, target in zip(batch.source, batch.targets)
        for written in [_decoded(*model, source, rng, length=2 * len(target), temperature=0)])


def _decoded(params: Params, config: ModelConfig, source: np.ndarray, rng: np.random.Generator,
             **options: Any) -> np.ndarray:
    """Return what the decoder writes for a source, up to END."""
    start = np.array([PAD])
    return generate(params, config, start, rng=rng, source=source, stop=END, **options)[1:]


def _bracketed(source: np.ndarray, target: np.ndarray) -> str:
    """Return the text on one line, with brackets around the spans that a target puts back."""
    ids = target[(target != END) & (target != PAD)]
    spans = np.split(ids, np.flatnonzero(ids >= FIRST_SENTINEL))[1:]
    marked = [np.concatenate([span[:1], [ord("[")], span[1:], [ord("]")]]) for span in spans]
    text = decode(span_corruption.fill(source, np.concatenate(marked or [target])))
    for n in range(SENTINELS):
        text = text.replace(f"<{n}>", f"[{BLANK}]")
    return text.replace("\n", "⏎")
