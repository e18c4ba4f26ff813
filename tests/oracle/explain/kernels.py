"""Kernels with a known fault, for the tests of explanations."""

import numpy as np

import switch_np as snp
from switch_np import oracle
from switch_np.oracle.explain import museum

PLAIN = snp.SwitchConfig(num_experts=4, capacity_factor=1.0)
LOSSES = ("balance_loss", "z_loss")


def problem(config=PLAIN, **options):
    asked = oracle.draw(config, 32, d_model=8, d_ff=12, **options)
    return asked, oracle.reference(**asked)


def all_of(ref, **changed):
    """Return what a kernel gives that is right but for the gradients in `changed`."""
    return {"y": ref.y, "balance_loss": ref.balance_loss, "z_loss": ref.z_loss,
            "grads": {**ref.grads, **changed}}


def of_museum(name, asked, precision, decide=True):
    given = museum.run(name, **asked, precision=precision)
    said = ("y", *LOSSES, "grads") + ("expert", "kept") * decide
    return {key: given[key] for key in said} | {"precision": precision}


def without(ref, name, term, share=1.0):
    """Return a gradient that lacks a share of a term."""
    return ref.grads[name] - share * ref.terms[name][term]


def flipped(ref):
    """Return the experts with a legal flip of the last choice, in bfloat16."""
    k, ranked_TE = ref.plan.expert.shape[1], np.argsort(-ref.scores, axis=1)
    cut_T2 = np.take_along_axis(ref.scores, ranked_TE[:, k - 1:k + 1], axis=1)
    token = (cut_T2[:, 0] - cut_T2[:, 1]).argmin()
    expert = ref.plan.expert.copy()
    expert[token, -1] = ranked_TE[token, k]
    return expert
