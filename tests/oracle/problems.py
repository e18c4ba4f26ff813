"""What the tests of the oracle share: problems, and kernels with a known fault."""

import functools

import numpy as np

from switch_np import SwitchConfig, oracle
from switch_np.operations.precision import round_to
from switch_np.oracle.explain import museum
from switch_np.oracle.truth.alone import OF_ROUTERS

PLAIN = SwitchConfig(num_experts=4, capacity_factor=1.0)
DROPS = SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.8)
LOSSES = ("balance_loss", "z_loss")


@functools.cache
def problem(config=PLAIN, tokens=32, d_model=8, d_ff=12, **options):
    """Return a problem and its reference, the same to all who ask for it: change neither."""
    asked = oracle.draw(config, tokens, d_model, d_ff, **options)
    return asked, oracle.reference(**asked)


def alone(asked, precision="float64", seed=0):
    """Return the problem of a layer's experts: its choices, with gates of any sign and size."""
    plan, rng = oracle.reference(**asked).plan, np.random.default_rng([seed, 11])
    gates = rng.standard_normal(plan.expert.shape) + rng.uniform(0, 2)
    params = {name: value for name, value in asked["params"].items() if name not in OF_ROUTERS}
    lost = ("balance_coef", "z_coef", "params")
    return {name: value for name, value in asked.items() if name not in lost} | {
        "params": params, "gates": round_to(gates, precision), "plan": plan}


def part(name, precision="float64", seed=0, tokens=24, d_model=8, d_ff=12, experts=4, k=2):
    """Return the arguments of `oracle.dispatch`, `combine` or `grouped_product` at random."""
    rng = np.random.default_rng([seed, 13])
    expert = np.argsort(rng.random((tokens, experts)), axis=1)[:, :k]
    kept = rng.random(expert.shape) < 0.9
    sizes = np.bincount(expert[kept], minlength=experts)
    shapes = {"x": (tokens, d_model), "rows": (kept.sum(), d_model), "gates": expert.shape,
              "weights": (experts, d_model, d_ff), "d_y": {
                  "dispatch": (kept.sum(), d_model), "combine": (tokens, d_model),
                  "grouped_product": (kept.sum(), d_ff)}[name]}
    wanted = {"dispatch": ("x",), "combine": ("rows", "gates"),
              "grouped_product": ("rows", "weights")}[name]
    given = {key: round_to(rng.standard_normal(shapes[key]), precision)
             for key in (*wanted, "d_y")}
    if name == "grouped_product":
        return given | {"group_sizes": sizes}
    return given | {"plan": {"expert": expert, "kept": kept}, "num_experts": experts}


def with_drops(**options):
    """Return a problem with dropped tokens, padding, an idle expert, and square weights."""
    return problem(DROPS, d_ff=8, seed=5, padding=2, unused=1, **options)


def all_of(ref, **changed):
    """Return what a right kernel gives, but for `changed`: y, a loss, or a gradient by its name."""
    got = {name: changed.pop(name, getattr(ref, name)) for name in ("y", *LOSSES)}
    return got | {"grads": {**ref.grads, **changed}}


def without(ref, name, term, share=1.0):
    """Return a gradient that lacks a share of a term."""
    return ref.grads[name] - share * ref.terms[name].get(term, 0)


def of_museum(name, asked, precision="float64", **options):
    """Return all that a kernel of the museum gives, None being the right one."""
    if "gates" not in asked:
        return museum.run(name, **asked, precision=precision, **options) | {"precision": precision}
    left = {key: value for key, value in asked.items() if key not in ("gates", "plan", "params")}
    plan, params = asked["plan"], {**asked["params"], "gates": asked["gates"]}
    got = museum.run(name, **left, params=params, precision=precision, expert=plan.expert,
                     kept=plan.kept)
    return {"y": got["y"], "grads": got["grads"], "precision": precision}


def judged(ref, got, *names):
    """Judge what a kernel gives, or of that just what is named."""
    return oracle.compare(ref, **{name: got[name] for name in names or got})


def flipped(ref):
    """Return the experts with a legal flip of the last choice, in bfloat16."""
    k, ranked_TE = ref.plan.expert.shape[1], np.argsort(-ref.scores, axis=1)
    cut_T2 = np.take_along_axis(ref.scores, ranked_TE[:, k - 1:k + 1], axis=1)
    token = (cut_T2[:, 0] - cut_T2[:, 1]).argmin()
    expert = ref.plan.expert.copy()
    expert[token, -1] = ranked_TE[token, k]
    return expert


def nudged(asked, token, column):
    """Put a token's product with a column of weights within float32's rounding of zero."""
    x = asked["x"].copy()
    x[token] -= column * ((x[token] @ column) * (1 - 1e-9) / (column @ column))
    return asked | {"x": x}
