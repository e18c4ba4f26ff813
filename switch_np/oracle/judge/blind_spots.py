"""What a comparison cannot see: terms of a gradient that lie below a correct kernel's rounding.

A term is unseen if every tensor that was handed in and has it would pass without it. The losses'
terms are, where their coefficients are small beside d_y and the precision is coarse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from switch_np.oracle.judge.tensor import deviations, tensor_verdict
from switch_np.oracle.truth.reference import Reference

APART = {"balance": "d_y=None", "z": "d_y=None", "gate": "balance_coef=0 and z_coef=0",
         "experts": "balance_coef=0 and z_coef=0"}


def unseen(truth: Reference, names: Iterable[str],
           sigma: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return the terms whose absence would pass, each with a sentence that says so.

    >>> from switch_np import SwitchConfig
    >>> from switch_np.oracle import draw, reference
    >>> asked = draw(SwitchConfig(num_experts=2), 8, d_model=4, d_ff=6) | {"z_coef": 1e-9}
    >>> ref = reference(**asked)
    >>> list(unseen(ref, ["d_w_router"], ref.sigma("float32")))
    ['z']
    """
    wanted, names = truth.outputs(), list(names)
    found: dict[str, str] = {}
    for term, apart in APART.items():
        sizes = {}
        for name in names:
            terms = truth.terms.get(name[2:], {})
            if len(terms) > 1 and term in terms and terms[term].any():
                want, value = wanted[name], terms[term]
                if not tensor_verdict(name, want - value, want, sigma[name], truth).ok:
                    break
                sizes[name] = float(deviations(want - value, want, sigma[name]).max())
        else:
            if sizes:
                name = max(sizes, key=lambda each: sizes[each])
                found[term] = (f"the {term} term is at most {sizes[name]:.2g} sigma, in {name}: "
                               f"its absence would pass; compare once with {apart}")
    return found
