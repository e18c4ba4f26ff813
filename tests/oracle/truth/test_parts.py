"""A grouped product, dispatch and combine: certified, by loops of their own, wrong ones named."""

import numpy as np
import pytest
from oracle.problems import judged, part

import switch_np as snp
from switch_np import oracle

NAMES = ("grouped_product", "dispatch", "combine")


def looped(name, given):
    """Return y by a loop over rows."""
    if name == "grouped_product":
        owner = np.repeat(np.arange(len(given["group_sizes"])), given["group_sizes"])
        return np.array([row @ given["weights"][e] for row, e in zip(given["rows"], owner)])
    expert, kept = (given["plan"][key] for key in ("expert", "kept"))
    order = sorted((expert[t, k], t, k) for t, k in np.argwhere(kept))
    if name == "dispatch":
        return np.array([given["x"][t] for _, t, _ in order])
    y = np.zeros(given["d_y"].shape, np.result_type(given["rows"], given["gates"]))
    for row, (_, t, k) in zip(given["rows"], order):
        y[t] += given["gates"][t, k] * row
    return y


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_part_is_that_of_a_loop_and_its_complex_step(name, k):
    given = part(name, seed=k, k=k)
    ref = getattr(oracle, name)(**given)
    np.testing.assert_allclose(ref.y, looped(name, given), rtol=0, atol=1e-14)
    for key, grad in ref.grads.items():
        def objective(moved, key=key):
            return (looped(name, given | {key: moved}) * given["d_y"]).sum()
        wanted = snp.gradcheck.complex_step(objective, given[key])
        assert snp.gradcheck.compare(key, grad, wanted) <= 1e-12
    assert set(ref.grads) == set(given) & {"x", "rows", "weights", "gates"}
    assert oracle.certify(ref).ok
    assert oracle.compare(ref, y=ref.y, grads=ref.grads, complete=True).ok


def test_rows_follow_a_plans_own_slots():
    expert = np.array([[0, 1], [1, 0]])
    x = np.array([[5.0], [6.0]])
    plan = snp.plans.fill(expert, 2, capacity=2)                # first choices before second ones
    for choices, rows in ((expert, [5, 6, 5, 6]), (plan, [5, 6, 6, 5]),
                          ({"expert": expert, "slot": plan.slot}, [5, 6, 6, 5])):
        assert oracle.dispatch(x, choices, 2).y.ravel().tolist() == rows


PRODUCT, DISPATCH, COMBINE = (part(name, seed=4) for name in NAMES)
PRODUCT_REF, DISPATCH_REF, COMBINE_REF = (
    getattr(oracle, name)(**given) for name, given in zip(NAMES, (PRODUCT, DISPATCH, COMBINE)))
FIRST = oracle.grouped_product(
    **PRODUCT | {"weights": np.repeat(PRODUCT["weights"][:1], 4, axis=0)})
START = np.concatenate([[0], np.cumsum(PRODUCT["group_sizes"])])
UNSORTED = np.argsort(COMBINE_REF.plan.row_of_choice[np.nonzero(COMBINE["plan"]["kept"])])


def windows(first):
    """Return the weights' gradient of groups of rows that begin elsewhere."""
    return np.stack([PRODUCT["rows"][i:i + n].T @ PRODUCT["d_y"][i:i + n]
                     for i, n in zip(first, PRODUCT["group_sizes"])])


def reordered(**given):
    return oracle.combine(**COMBINE | given)


@pytest.mark.parametrize("ref, wrong, words", [
    (PRODUCT_REF, {"weights": windows(START[:-1] // 8 * 8)}, "sums over rows from a multiple of"),
    (PRODUCT_REF, {"weights": PRODUCT_REF.grads["weights"][::-1]}, "has its experts permuted"),
    (PRODUCT_REF, {"weights": PRODUCT_REF.grads["weights"].swapaxes(1, 2).reshape(4, 8, 12)},
     "d_weights is transposed"),
    (PRODUCT_REF, {"y": FIRST.y, "rows": FIRST.grads["rows"]},
     "weights of expert 0 is used for all experts"),
    (PRODUCT_REF, {"y": oracle.grouped_product(**PRODUCT | {
        "rows": PRODUCT["rows"][np.arange(START[-1]) - np.repeat(
            START[:-1], PRODUCT["group_sizes"]) % 8]}).y}, "rows are read from a multiple of 8 on"),
    (PRODUCT_REF, {"rows": np.where(np.arange(START[-1])[:, None] < 40, PRODUCT_REF.grads["rows"],
                                    0)}, "rows, the last ones: 40"),
    (DISPATCH_REF, {"y": DISPATCH_REF.y[::-1]}, "y has its rows permuted: row 0 holds the row of"),
    (DISPATCH_REF, {"x": DISPATCH_REF.grads["x"] / 2}, "d_x is divided by 2"),
    (COMBINE_REF, {"y": reordered(rows=COMBINE["rows"][UNSORTED]).y},
     "y: the rows are in order by token, not by expert"),
    (COMBINE_REF, {"y": reordered(gates=0 * COMBINE["gates"] + 1).y}, "the gates are not applied"),
    (COMBINE_REF, {"rows": reordered(gates=0 * COMBINE["gates"] + 1).grads["rows"]},
     "d_rows lacks the gate"),
    (COMBINE_REF, {"gates": COMBINE_REF.grads["gates"] / 8}, "d_gates is divided by 8 (D, over"),
    (COMBINE_REF, {"gates": COMBINE_REF.grads["gates"].T.reshape(24, 2)}, "d_gates is transposed"),
])
def test_what_is_wrong_is_named(ref, wrong, words):
    got = {"y": wrong.get("y", ref.y), "grads": {**ref.grads, **wrong}, "precision": "float32"}
    got["grads"].pop("y", None)
    report = judged(ref, got)
    assert report.verdict == "fail" and words in report.diagnosis[0], str(report)


@pytest.mark.parametrize("call, change, words", [
    ("grouped_product", {"group_sizes": [1, 2, 3, 4]}, "group_sizes must hold whole numbers"),
    ("grouped_product", {"weights": np.ones((4, 9, 12))}, r"weights must have shape \(4, 8, F\)"),
    ("dispatch", {"x": np.ones(24)}, r"x must have shape \(T, D\)"),
    ("dispatch", {"num_experts": 2}, "expert must lie in 0 .. 1"),
    ("dispatch", {"d_y": np.ones((3, 8))}, "d_y must have shape"),
    ("combine", {"rows": np.ones((3, 8))}, "rows must have shape"),
    ("combine", {"gates": np.ones((24, 3))}, "gates must hold a number for each")])
def test_bad_arguments_are_named(call, change, words):
    with pytest.raises(ValueError, match=words):
        getattr(oracle, call)(**part(call) | change)
