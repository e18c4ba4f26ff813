"""A museum of wrong gradients: bugs seen in real libraries, planted in a copy of the layer.

`kernel.py` is a correct layer of its own. An exhibit replaces a few lines of its text, so that each
bug reads as a diff. Tests prove that the oracle finds every bug; reports name them; `oracle.score`
grades other people's tests with them. In reading order:

kernel            the correct layer
exhibit           what an exhibit is
wrong_outputs     bugs in the routing, the output or the values of the losses
wrong_gradients   bugs in gradients alone
wrong_ranks       bugs of layers that are cut over ranks, planted in `parallel.layer`
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from switch_np.operations import check, signatures
from switch_np.operations.precision import round_to
from switch_np.oracle.explain.causes import Evidence, likeliest
from switch_np.oracle.explain.museum import wrong_gradients, wrong_outputs
from switch_np.oracle.explain.museum.exhibit import in_words
from switch_np.oracle.truth.solution import LOSSES, Problem, outputs
from switch_np.switch.config import SwitchConfig

OUTPUT_ALSO = wrong_outputs.ROUTING + wrong_outputs.OUTPUT + wrong_outputs.LOSSES
GRADIENT_ALONE = wrong_gradients.ROUTER + wrong_gradients.EXPERTS
EXHIBITS = {exhibit.name: exhibit for exhibit in OUTPUT_ALSO + GRADIENT_ALONE}


def __getattr__(name: str) -> Any:
    """Import `wrong_ranks`, and the layer over ranks with it, when it is first asked for."""
    if name != "wrong_ranks":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


@cache
def planted(name: str | None = None) -> Callable[..., dict[str, Any]]:
    """Return `kernel.run` with the named bug planted; for None, as it is."""
    text = Path(__file__).with_name("kernel.py").read_text()
    if name is not None:
        check.choice("name", name, list(EXHIBITS))
        for right, wrong in EXHIBITS[name].changes:
            if text.count(right) != 1:
                raise ValueError(f"{name}: {right!r} occurs {text.count(right)} times in "
                                 "kernel.py, want once")
            text = text.replace(right, wrong)
    space: dict[str, Any] = {"round_to": round_to}
    exec(compile(text, f"<{name or 'kernel'}>", "exec"), space)
    return cast(Callable[..., dict[str, Any]], space["run"])


@signatures.checked
def run(name: str | None, x: np.ndarray, params: dict[str, np.ndarray], config: SwitchConfig, *,
        d_y: np.ndarray | None, balance_coef: float = 0.0, z_coef: float = 0.0,
        padding: np.ndarray | None = None, expert: np.ndarray | None = None,
        kept: np.ndarray | None = None, precision: str = "float64") -> dict[str, Any]:
    """Run the layer with a bug planted.

    Parameters
    ----------
    name
        The exhibit's name; None runs the correct layer.
    x, params, config, d_y, balance_coef, z_coef, padding
        As for `oracle.reference`, x as (T, D), under the conventions that `kernel` lists. Without
        d_y there are no gradients.
        With "gates" (T, K) among the params, and `expert`, the experts run alone.
    expert, kept
        (T, K) the experts chosen, by default those of the highest probabilities; who is kept, by
        default those within the capacity.
    precision
        "bfloat16" and "float16" compute in float32 and round each intermediate.

    Returns
    -------
    dict
        y, balance_loss, z_loss, expert, kept, slot and grads, the last by parameter and "x".

    Examples
    --------
    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw
    >>> problem = draw(SwitchConfig(num_experts=2), 6, d_model=4, d_ff=5)
    >>> bool(run("dx_without_router", **problem)["grads"]["w_in"].any())
    True
    """
    dtype = np.float64 if precision == "float64" else np.float32
    half = precision in ("bfloat16", "float16")
    params = {key: value.astype(dtype) for key, value in params.items()}
    alone = "gates" in params
    if alone:
        plain = replace(config.conventions, renorm="none", gate_scale=1.0)
        config = replace(config, conventions=plain)
    with np.errstate(all="ignore"):
        result = planted(name)(
            x.astype(dtype), params, config, None if d_y is None else d_y.astype(dtype),
            balance_coef, z_coef, padding, expert, kept,
            lambda value: round_to(value, precision) if half else value)
    return result | dict.fromkeys(LOSSES if alone else ())


@signatures.checked
def recognise(evidence: Evidence) -> list[str]:
    """Return the exhibits that explain every tensor and choice, the likeliest first.

    Returns none where even the correct kernel differs from the reference.
    """
    ref, p = evidence.ref, evidence.ref.problem
    if p.noise is not None or len(ref.plan.load) > 1 or not p.whole:
        return []
    right = replace(evidence, got=ref.outputs(), failed=frozenset(),
                    replayed=evidence.replayed._replace(reference=ref))
    kept_TK = ref.plan.kept if p.alone else None
    _, numbers = _suspects(None, p, ref.plan.expert, kept_TK)
    if not numbers or right.total(numbers) == np.inf:
        return []
    # A bug may act before or after the kernel's own choices at near-ties.
    own = [evidence.truth.plan.expert if evidence.legal else None]
    if evidence.replayed.given is None and evidence.truth is not ref:
        own.append(None)
    if own[-1] is None and not np.array_equal(
            _suspects(None, p, None, None)[0]["expert"], ref.plan.expert):
        own.pop()                                         # the kernel would choose otherwise

    def misfit(name: str, expert_TK: np.ndarray | None, whole: bool) -> float:
        result, suspects = _suspects(name, p, expert_TK, kept_TK, whole)
        explains = suspects and evidence.decides_so(result["expert"], result["kept"])
        return evidence.total(suspects) if explains else np.inf

    fits: dict[str, float] = {}
    outputs_are_right = all(name.startswith("d_") for name in evidence.failed)
    for exhibit in OUTPUT_ALSO + outputs_are_right * GRADIENT_ALONE:
        text = in_words(exhibit.what, exhibit.seen)
        for expert_TK in own:      # the outputs, a third of the work, rule out most bugs in them
            if exhibit in GRADIENT_ALONE or misfit(exhibit.name, expert_TK, False) < np.inf:
                fits[text] = min(misfit(exhibit.name, expert_TK, True), fits.get(text, np.inf))
    return likeliest(fits)


def _suspects(name: str | None, p: Problem, expert_TK: np.ndarray | None,
              kept_TK: np.ndarray | None, whole: bool = True
              ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return an exhibit's result on a problem, and its tensors in the reference's shapes."""
    x, d_y = (value.reshape(-1, value.shape[-1]) for value in (p.x, p.d_y))
    try:
        result = run(name, x, dict(p.params), p.config, d_y=d_y if whole else None,
                     balance_coef=p.balance_coef, z_coef=p.z_coef, padding=p.padding_T,
                     expert=expert_TK, kept=kept_TK)
    except Exception:                          # a bug that crashes explains nothing
        return {}, {}
    return result, {key: value.reshape(p.x.shape) if key in ("y", "d_x") else value
                    for key, value in flat(result).items()}


@signatures.checked
def flat(result: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the tensors of `run`'s result under the names of `Reference.outputs`.

    >>> sorted(flat({"y": 1.0, "balance_loss": 1.0, "z_loss": 2.0, "grads": {"x": 3.0}}))
    ['balance_loss', 'd_x', 'y', 'z_loss']
    """
    return outputs(SimpleNamespace(**result), result["grads"])
