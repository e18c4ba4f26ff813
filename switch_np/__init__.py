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
C       slots per expert buffer, over all groups           expert capacity
G       groups
N       kept choices, at most T * K
R       rows handed to the experts
D, F    d_model, d_ff                                      d_model, d_ff
H, A    attention heads, width of a head                   d_kv
V       vocabulary
======  =================================================  =====================
"""

from switch_np.oracle import gradcheck
from switch_np.switch import layer as switch_layer
from switch_np.switch.config import SwitchConfig
from switch_np.switch.presets import presets
from switch_np.transformer import model
from switch_np.transformer.config import ModelConfig
from switch_np.transformer.model import Batch

__version__ = "0.1.0"
__all__ = ["Batch", "ModelConfig", "SwitchConfig", "gradcheck", "model", "presets", "switch_layer"]
