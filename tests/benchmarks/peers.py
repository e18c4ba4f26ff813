"""Who is measured beside the bare products: ourselves in three settings, and other libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from benchmarks.settings import SETTINGS
from benchmarks.subject import Spec

BARE, OURS, LEAST = NO_PEERS = "bare products", "switch_np", "least NumPy"
EAGER = "PyTorch eager"
SAME, SAME_STEP = "benchmarks.ours:layer", "benchmarks.ours:step"
TORCH_STEP = "benchmarks.torch_step_peer:step"
BIAS = ("decoder.position_bias.table",)

# What is set against each other comes one after the other. A peer in the setting "blas" has all
# cores; JAX takes them whatever the setting says.
LAYER = [
    *(Spec(name, f"benchmarks.{module}:layer", setting) for setting in SETTINGS
      for name, module in ((BARE, "floor"), (OURS, "ours"))),
    *(Spec(LEAST, "benchmarks.least:layer", setting, agrees=SAME) for setting in ("pool", "one")),
    Spec(EAGER, "benchmarks.torch_peer:layer", "blas", ("torch",), SAME),
    Spec(EAGER, "benchmarks.torch_peer:layer", "one", ("torch",), SAME),
    Spec("PyTorch compiled", "benchmarks.torch_peer:layer_compiled", "blas", ("torch",), SAME),
    Spec("JAX compiled", "benchmarks.jax_peer:layer", "blas", ("jax",), SAME),
    Spec("JAX compiled, one-hot", "benchmarks.jax_peer:layer_one_hot", "blas", ("jax",), SAME),
    Spec("Hugging Face's block", "benchmarks.hugging_face_peer:layer", "blas",
         ("torch", "transformers"), "benchmarks.ours:layer_unbalanced"),
]

STEP = [
    *(Spec(name, f"benchmarks.{module}:step", setting) for setting in SETTINGS
      for name, module in ((BARE, "floor"), (OURS, "ours"))),
    *(Spec(EAGER, TORCH_STEP, setting, ("torch",), SAME_STEP, BIAS) for setting in ("blas", "one")),
    Spec("PyTorch eager, bias trained", f"{TORCH_STEP}_with_bias", "blas", ("torch",), SAME_STEP),
    Spec("PyTorch compiled", f"{TORCH_STEP}_compiled", "blas", ("torch",), SAME_STEP, BIAS),
]


def installed(specs: Iterable[Spec]) -> list[Spec]:
    """Return those whose modules are there."""
    return [spec for spec in specs if not missing(spec)]


def missing(spec: Spec) -> list[str]:
    """Return the modules that a subject needs and this Python has not.

    >>> missing(Spec("x", "", needs=("no_such_module", "json")))
    ['no_such_module']
    """
    return [name for name in spec.needs if importlib.util.find_spec(name) is None]
