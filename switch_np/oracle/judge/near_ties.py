"""How far legal flips at near-ties move each number, where a kernel does not say what it chose.

The scores of tokens at a near-tie are moved at random, and everything is decided anew by the
config's own rules and computed under that plan, 12 times. The root mean square of the changes
joins sigma; what lies beyond even then, no flip explains.
"""

import numpy as np

from switch_np import plans
from switch_np.conventions import serve
from switch_np.conventions.noise import Noise
from switch_np.oracle.truth.reference import Reference, outputs_of
from switch_np.switch.plan import Plan

SAMPLES = 12


def spread(ref: Reference, tau_T: np.ndarray) -> dict[str, np.ndarray]:
    """Return how far each of `ref.outputs()` is moved, as a root mean square.

    Infinite in the rows of y and d_x of tokens at an expert over its capacity: whether these are
    kept hangs on more flips at once than samples can show.

    Parameters
    ----------
    ref
        The reference.
    tau_T
        (T,) how close two scores must be to count as a near-tie.

    Examples
    --------
    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw, reference
    >>> config = SwitchConfig(num_experts=2, capacity_factor=None)
    >>> ref = reference(**draw(config, 8, d_model=4, d_ff=6))
    >>> [bool(spread(ref, np.full(8, tau))["y"].any()) for tau in (0, 1)]
    [False, True]
    """
    p, rng = ref.problem, np.random.default_rng(0)
    reach_T1 = np.where(ref.margin <= tau_T, tau_T, 0.0)[:, None]
    wanted = ref.outputs()
    squares = {name: np.zeros(value.shape) for name, value in wanted.items()}
    contested_T = plans.contested(ref.plan)
    for _ in range(SAMPLES):
        plan = _decided(ref, rng.uniform(-1, 1, ref.scores.shape) * reach_T1)
        contested_T = contested_T | plans.contested(plan)
        for name, value in outputs_of(p, plan)[1].items():
            squares[name] += (value - wanted[name]) ** 2
    if reach_T1.any():
        for name in ("y", "d_x"):
            squares[name][contested_T.reshape(squares[name].shape[:-1])] = np.inf
    return {name: np.sqrt(square / SAMPLES) for name, square in squares.items()}


def _decided(ref: Reference, moved_TE: np.ndarray) -> Plan:
    """Return the plan of moved scores."""
    p = ref.problem
    return serve.decide(ref.probs + moved_TE, ref.logits + moved_TE, p.config,
                        noise=p.noise or Noise(), bias_E=p.params.get("select_bias"),
                        num_groups=len(ref.plan.load), training=p.training,
                        padding_T=p.padding_T)
