"""Importance and load: losses that are a coefficient of variation squared.

Source: Shazeer et al., "Outrageously large neural networks" (2017), equations 6 to 11; V-MoE
(Riquelme et al., 2021, appendix A.2); Tutel. The layer computes neither: a caller adds them to the
objective and hands d_gates (as `d_probs`) or d_clean + d_noisy (as `d_logits`) to
`switch_layer.backward`. Unlike the balance loss's f, the counts here have a gradient.

Forward:   CV²(v) = var(v) / (mean(v)² + ε);  var divides by E - `ddof`
           importance  v_e = Σ_t gates[t, e]
           load        v_e = Σ_t Φ(u[t, e]),  u = (clean[t, e] - threshold) / σ:  the probability
           that e is among the K best if only the noise of e is drawn again. The threshold is the
           K-th largest of noisy[t] (V-MoE, Tutel), or the K-th largest without e (2017), which for
           the K best themselves is the (K+1)-th.
Backward:  d_v_e = d_L (2 (v_e - m) / (E - ddof) - CV² · 2 m / E) / (m² + ε);  m is the mean;
           d_u = d_v_e φ(u),   d_clean = d_u / σ,   d_σ = -d_u u / σ;
           d_noisy: each threshold's entry receives -d_u / σ. Which entry that is has no gradient.
"""

import math
from typing import NamedTuple

import numpy as np

from switch_np.operations import check
from switch_np.operations.activations import normal_cdf
from switch_np.operations.queues import largest


class VariationCache(NamedTuple):
    """Saved for backward: v less its mean, the mean, mean² + ε, CV², and what var divides by."""

    off_E: np.ndarray
    mean_1: np.ndarray
    bottom_1: np.ndarray
    loss_1: np.ndarray
    free: int


class LoadCache(NamedTuple):
    """Saved for backward: u, σ, the place of each expert's threshold, and CV²'s cache."""

    distance_TE: np.ndarray
    std_TE: np.ndarray
    place_TE: np.ndarray
    variation: VariationCache


def variation(value_E: np.ndarray, ddof: int = 0,
              eps: float = 0.0) -> tuple[np.ndarray, VariationCache]:
    """Return the coefficient of variation squared; 0 for a single value, or where all are 0.

    >>> float(variation(np.array([1.0, 3.0]))[0])
    0.25
    """
    free = max(len(value_E) - ddof, 1)
    mean_1 = value_E.mean(keepdims=True)
    off_E = value_E - mean_1
    bottom_1 = mean_1 ** 2 + eps
    bottom_1 = np.where(bottom_1 == 0, 1, bottom_1)
    loss_1 = (off_E ** 2).sum(keepdims=True) / (free * bottom_1)
    return loss_1[0], VariationCache(off_E, mean_1, bottom_1, loss_1, free)


def variation_backward(d_loss: float, cache: VariationCache) -> np.ndarray:
    """Return d_value (E,)."""
    off_E, mean_1, bottom_1, loss_1, free = cache
    slope_E = 2 * off_E / free - loss_1 * (2 / len(off_E)) * mean_1
    return np.asarray(float(d_loss) * slope_E / bottom_1)


def importance(gates_TE: np.ndarray, *, ddof: int = 0,
               eps: float = 0.0) -> tuple[np.ndarray, tuple[int, VariationCache]]:
    """Return the importance loss, a scalar.

    Parameters
    ----------
    gates_TE
        (T, E) floats: V-MoE's and Tutel's are the softmax without noise; those of 2017 are zero
        except for the chosen experts.
    ddof, eps
        0 and 0 for V-MoE, 1 and 1e-10 for Tutel, 0 and 1e-10 for the paper's code.

    Raises
    ------
    TypeError, ValueError
        If the gates are not finite floats of shape (T, E).

    Examples
    --------
    >>> float(importance(np.array([[0.5, 0.5], [0.0, 1.0]]))[0])
    0.25
    """
    check.floats("gates_TE", gates_TE, ("T", "E"), finite=True)
    _check_constants(gates_TE.shape[1], ddof, eps)
    loss, cache = variation(gates_TE.sum(axis=0), ddof, eps)
    return loss, (len(gates_TE), cache)


def importance_backward(d_loss: float, cache: tuple[int, VariationCache]) -> np.ndarray:
    """Return d_gates (T, E)."""
    return np.tile(variation_backward(d_loss, cache[1]), (cache[0], 1))


def load(clean_TE: np.ndarray, noisy_TE: np.ndarray, std: float | np.ndarray, k: int, *,
         leave_out: bool = False, ddof: int = 0,
         eps: float = 0.0) -> tuple[np.ndarray, LoadCache]:
    """Return the load loss, a scalar.

    Parameters
    ----------
    clean_TE, noisy_TE
        (T, E) floats: the logits without and with noise. Tutel passes the softmax as `clean_TE`.
    std
        The noise's standard deviation, a number or (T, E): 1 / E for V-MoE, softplus(x w_noise) in
        2017.
    k
        Experts chosen per token.
    leave_out
        Whether an expert's threshold leaves out its own noisy logit, as in 2017. Then K must be
        below E.
    ddof, eps
        As `importance` takes them.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range; the message names it.

    Examples
    --------
    >>> clean = np.array([[0.9, 0.1], [0.4, 0.6]])
    >>> round(float(load(clean, clean, 0.5, 1)[0]), 4)
    0.0429
    """
    check.floats("clean_TE", clean_TE, ("T", "E"), finite=True)
    t, e = clean_TE.shape
    check.floats("noisy_TE", noisy_TE, (t, e), finite=True)
    check.integer("k", k, 1, e + (not leave_out))
    check.flag("leave_out", leave_out)
    _check_constants(e, ddof, eps)
    if not isinstance(std, np.ndarray):
        check.number("std", std)
        std = np.full((t, e), std, clean_TE.real.dtype)
    check.floats("std", std, (t, e), finite=True)
    if (std.real <= 0).any():
        raise ValueError(f"std must be above 0, got {std.real.min()}")
    best = largest(noisy_TE.real, k + leave_out)
    place_TE = np.repeat(best[:, k - 1:k], e, axis=1)
    if leave_out:
        np.put_along_axis(place_TE, best[:, :k], best[:, k:], axis=1)
    distance_TE = (clean_TE - np.take_along_axis(noisy_TE, place_TE, axis=1)) / std
    loss, cache = variation(normal_cdf(distance_TE).sum(axis=0), ddof, eps)
    return loss, LoadCache(distance_TE, std, place_TE, cache)


def load_backward(d_loss: float,
                  cache: LoadCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return d_clean, d_noisy and d_std (T, E)."""
    distance_TE, std_TE, place_TE, _ = cache
    density_TE = np.exp(-0.5 * distance_TE ** 2) / math.sqrt(2 * math.pi)
    d_distance_TE = variation_backward(d_loss, cache.variation) * density_TE
    d_clean_TE = d_distance_TE / std_TE
    d_noisy_TE, tokens_T1 = np.zeros_like(d_clean_TE), np.arange(len(place_TE))[:, None]
    np.add.at(d_noisy_TE, (tokens_T1, place_TE), -d_clean_TE)
    return d_clean_TE, d_noisy_TE, -d_clean_TE * distance_TE


def _check_constants(num_experts: int, ddof: int, eps: float) -> None:
    check.integer("ddof", ddof, 0, max(num_experts, 2))
    check.number("eps", eps, 0)
