"""The bias for selection only, moved after each step towards an even load; it has no gradient.

Source: Wang et al., "Auxiliary-loss-free load balancing" (2024), algorithm 1, as in DeepSeek-V3,
MaxText and Megatron. The layer adds the bias to the scores (`select_bias`); the trainer moves it
(`TrainConfig.bias_rate`).

    b_e ← b_e + rate · sign(mean load - load_e)
"""

import numpy as np

from switch_np.operations import check


def updated(bias_E: np.ndarray, load_E: np.ndarray, rate: float) -> np.ndarray:
    """Return the bias (E,) after a step.

    Parameters
    ----------
    bias_E
        (E,) floats, `params["select_bias"]`.
    load_E
        (E,) the choices per expert, such as `plan.load.sum(axis=0)`, including dropped ones and
        those of all micro-batches, and without padding's.
    rate
        How far an expert's bias moves: 0.001 in DeepSeek-V3.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, shape or range; the message names it.

    Examples
    --------
    >>> updated(np.zeros(4), np.array([5, 4, 3, 4]), 0.01).tolist()
    [-0.01, 0.0, 0.01, 0.0]
    """
    check.floats("bias_E", bias_E, ("E",), finite=True)
    check.integers("load_E", load_E, bias_E.shape, 0, np.inf)
    check.number("rate", rate, 0)
    # Whole numbers on both sides: a mean could miss a load that equals it.
    direction_E = np.sign(load_E.sum() - load_E * len(load_E))
    return np.asarray(bias_E + (float(rate) * direction_E).astype(bias_E.dtype))
