"""The Switch Transformer in NumPy, forwards and backwards by hand.

Arrays carry shape suffixes: the letters after the underscore are the dimensions, so `probs_TE` has
shape (T, E). A gradient is `d_` and the name. A scalar has no suffix; `1` stands for an axis kept
at length one; two letters run together for a product only where a reshape makes one.

======  =================================================  =====================
letter  is                                                 the paper's
======  =================================================  =====================
T       tokens routed together, B * S flattened            T
B, S    batch, sequence length (M: length attended to)
E       experts                                            N
K       experts chosen per token (1 = Switch)              k
C       slots of one expert for one group                  expert capacity
G       groups
N       kept choices, at most T * K
R       rows of the experts
Q       rows that come from all ranks to one rank's experts
D, F    d_model, d_ff                                      d_model, d_ff
H, A    attention heads, width of a head                   d_kv
V       vocabulary
L, P    bytes of a window that loses spans, its spans
======  =================================================  =====================
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from switch_np import experiments, model, oracle, plans, plots, switch_layer
    from switch_np.conventions.noise import Noise
    from switch_np.conventions.presets import presets
    from switch_np.conventions.table import Conventions
    from switch_np.operations import gradcheck
    from switch_np.switch.config import SwitchConfig
    from switch_np.transformer.batch import Batch
    from switch_np.transformer.model_config import ModelConfig

__version__ = "0.2.0"
__all__ = ["Batch", "Conventions", "ModelConfig", "Noise", "SwitchConfig", "experiments",
           "gradcheck", "model", "oracle", "plans", "plots", "presets", "switch_layer"]

_HOMES = {
    "Batch": "transformer.batch:Batch", "Conventions": "conventions.table:Conventions",
    "ModelConfig": "transformer.model_config:ModelConfig", "Noise": "conventions.noise:Noise",
    "SwitchConfig": "switch.config:SwitchConfig", "experiments": "experiments:",
    "gradcheck": "operations.gradcheck:", "model": "model:", "oracle": "oracle:",
    "plans": "plans:", "plots": "plots:", "presets": "conventions.presets:presets",
    "switch_layer": "switch_layer:"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for.

    pytest imports this package in every project of a user, for the oracle's fixtures; NumPy must
    not come along before a test asks for one.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, attribute = _HOMES[name].split(":")
    module = import_module(f"{__name__}.{home}")
    return getattr(module, attribute) if attribute else module
