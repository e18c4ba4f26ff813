"""Who is timed, a row each: the bare products, ourselves, minimal NumPy, other libraries."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

BARE, OURS, LEAST = "bare products", "switch_np", "least NumPy"


class Subject(NamedTuple):
    """`run` is timed; `named` turns what it returns into outputs and gradients by name."""

    run: Callable[[], Any]
    named: Callable[[Any], Mapping[str, Any]] = dict

    def results(self) -> dict[str, np.ndarray]:
        """Run once; return outputs and gradients."""
        return {name: np.asarray(value) for name, value in self.named(self.run()).items()}


class Entry(NamedTuple):
    """A row of the tables below."""

    name: str
    threads: str                    # a key of timing.THREADS
    function: str                   # `module:function` of this folder, from a size to a Subject
    same_as: str = ""               # the function of ours that must give the same results
    lacks: tuple[str, ...] = ()     # results of ours that it does not give


def make(function: str, size: Any) -> Subject:
    """Call the `module:function` of an entry."""
    module, name = function.split(":")
    return getattr(importlib.import_module(f"benchmarks.{module}"), name)(size)


def ours_and_bare(function: str) -> list[Entry]:
    """Return our rows, each right after the bare products that it is compared with."""
    return [Entry(name, threads, f"{module}:{function}") for threads in ("ours", "library", "one")
            for name, module in ((BARE, "bare_products"), (OURS, "ours"))]


FIXED_BIAS = ("decoder.position_bias.table",)       # lacks a gradient where it is not trained
LAYER = [
    *ours_and_bare("layer"),
    Entry(LEAST, "ours", "least_numpy:layer", "ours:layer"),
    Entry(LEAST, "one", "least_numpy:layer", "ours:layer"),
    Entry("PyTorch eager", "library", "torch_peer:layer", "ours:layer"),
    Entry("PyTorch eager", "one", "torch_peer:layer", "ours:layer"),
    Entry("PyTorch compiled", "library", "torch_peer:layer_compiled", "ours:layer"),
    Entry("JAX compiled", "library", "jax_peer:layer", "ours:layer"),
    Entry("Hugging Face's block", "library", "hugging_face_peer:layer", "ours:layer_unbalanced"),
]
STEP = [
    *ours_and_bare("step"),
    Entry("PyTorch eager", "library", "torch_peer:step", "ours:step", FIXED_BIAS),
    Entry("PyTorch eager", "one", "torch_peer:step", "ours:step", FIXED_BIAS),
    Entry("PyTorch eager, bias trained", "library", "torch_peer:step_bias", "ours:step"),
    Entry("PyTorch compiled", "library", "torch_peer:step_compiled", "ours:step", FIXED_BIAS),
    Entry("PyTorch compiled, bias trained", "library", "torch_peer:step_compiled_bias",
          "ours:step"),
    Entry("JAX compiled", "library", "jax_peer:step", "ours:step"),
]
TEXT = [
    Entry(OURS, "ours", "ours:text"),
    Entry("transformers", "library", "hugging_face_peer:text", "ours:text"),
    Entry("transformers", "one", "hugging_face_peer:text", "ours:text"),
]
PEERS = [entry for entry in LAYER + STEP + TEXT if "_peer:" in entry.function]
