"""What a trained model writes, as readable text: continuations, filled-in spans, answers."""

import re
from typing import Any

import numpy as np

from switch_np.generate import generate
from switch_np.training import span_corruption
from switch_np.training.trainer import Run
from switch_np.training.vocabulary import END, FIRST_SENTINEL, PAD, SENTINELS, decode, encode

BLANK = "___"
EXAMPLE = {"lm": 300, "pairs": 200}    # bytes to write at the end of a run


def visible(text: str) -> str:
    r"""Return the text with control characters, which a terminal obeys, escaped; newlines stay.

    >>> print(visible("a\tb\x1b[2J"))
    a\x09b\x1b[2J
    """
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda c: f"\\x{ord(c[0]):02x}", text)


def write(run: Run, prompt: str | bytes, **options: Any) -> str:
    """Return what a run's model makes of a prompt; `options` go to `generate`.

    By the run's task: the prompt and what follows it; the prompt with every blank, `___`, filled
    in; or the target to a source.
    """
    prompt = prompt.encode() if isinstance(prompt, str) else prompt
    if run.config.task == "lm":
        options |= {"window": run.config.seq_len}
        ids = generate(run.stored, run.model_config, encode(prompt), **options)
        return bytes(ids[ids < PAD].tolist()).decode("utf-8", errors="replace")
    if run.config.task == "span":
        source = _with_sentinels(prompt)
        return decode(span_corruption.fill(source, _target(run, source, **options)))
    return decode(_target(run, np.append(encode(prompt), END), **options))


def example(run: Run, held_out: Any) -> str:
    """Return a piece of held-out text and what the model makes of it, for the end of a run."""
    rng, config = np.random.default_rng(run.config.seed), run.config
    if config.task == "lm":
        return write(run, held_out[:32].tobytes(), rng=rng, length=EXAMPLE["lm"],
                     temperature=0.7)
    if config.task == "pairs":
        options = {"rng": rng, "length": EXAMPLE["pairs"], "temperature": 0}
        return "\n".join(
            f"source: {pair.source.decode(errors='replace')}\n"
            f"answer: {write(run, pair.source, **options)}\n"
            f"target: {pair.target.decode(errors='replace')}" for pair in held_out[:5])
    windows = held_out[:3 * config.seq_len].reshape(-1, config.seq_len)
    batch = span_corruption.corrupt(rng, windows, config.corruption, config.mean_span)
    assert batch.source is not None
    texts = []
    for source, target in zip(batch.source, batch.targets):
        written = _target(run, source, rng=rng, length=2 * len(target), temperature=0)
        texts += [f"before: {_bracketed(source, target[:0])}\n"
                  f"after:  {_bracketed(source, written)}\ntext:   {_bracketed(source, target)}"]
    return "\n\n".join(texts)


def _with_sentinels(text: bytes) -> np.ndarray:
    """Return the source for a text with blanks: a sentinel in the place of each."""
    first, *rest = text.split(BLANK.encode())
    if not 1 <= len(rest) <= SENTINELS:
        raise ValueError(f"prompt must hold 1 to {SENTINELS} blanks, {BLANK}, for the model to "
                         f"fill in, got {len(rest)}")
    return np.concatenate([encode(first), *(
        np.append(FIRST_SENTINEL + n, encode(piece)) for n, piece in enumerate(rest)), [END]])


def _target(run: Run, source: np.ndarray, **options: Any) -> np.ndarray:
    """Return what the model writes for a source (M,), up to END."""
    prompt = source
    if run.model_config.encoder:
        prompt = np.array([PAD])
        options |= {"source": source}
    return generate(run.stored, run.model_config, prompt, stop=END, **options)[len(prompt):]


def _bracketed(source: np.ndarray, target: np.ndarray) -> str:
    """Return the text on one line, with brackets around the spans that a target puts back."""
    ids = target[(target != END) & (target != PAD)]
    spans = np.split(ids, np.flatnonzero(ids >= FIRST_SENTINEL))[1:]
    marked = [np.concatenate([span[:1], [ord("[")], span[1:], [ord("]")]]) for span in spans]
    text = decode(span_corruption.fill(source, np.concatenate(marked or [target])))
    for n in range(SENTINELS):
        text = text.replace(f"<{n}>", f"[{BLANK}]")
    return text.replace("\n", "⏎")
