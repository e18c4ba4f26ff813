"""`compare(..., rank=r)`: a right kernel passes on each rank, and what is wrong is said there."""

from dataclasses import replace

import numpy as np
import pytest

from switch_np import Conventions, SwitchConfig, oracle
from switch_np.oracle.explain.museum import wrong_ranks
from switch_np.oracle.truth import ranks

CONFIG = SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.8)
N = 2


def config_of(name):
    """Return a config under which a bug shows."""
    return CONFIG if name != "padding_rows_answered" else replace(
        CONFIG, top_k=1, conventions=Conventions(expert_biases=True))


def problem(config=CONFIG, tokens=32, precision="float64", **options):
    asked = oracle.draw(config, tokens, 8, 12, padding=5, precision=precision, **options)
    return oracle.reference(**asked, ranks=N)


def handed_in(tensors, names=None, cast=lambda value: value):
    """Return a rank's numbers as arguments of `compare`."""
    tensors = {name: cast(value) for name, value in tensors.items()
               if names is None or name in names}
    return {name: value for name, value in tensors.items() if name[:2] != "d_"} | {
        "grads": {name[2:]: value for name, value in tensors.items() if name[:2] == "d_"}}


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_right_kernel_passes_on_each_rank(precision):
    ref = problem(precision=precision)
    cast = (lambda value: value.astype(np.float32)) if precision == "float32" else (lambda v: v)
    for rank, truth in enumerate(ref.ranks):
        mine = slice(16 * rank, 16 * rank + 16)
        report = oracle.compare(ref, rank=rank, complete=True, expert=ref.plan.expert[mine],
                                kept=ref.plan.kept[mine], **handed_in(truth.got, cast=cast))
        assert report.ok and report.precision == precision, str(report)
        oracle.assert_matches(ref, rank=rank, **handed_in(truth.got, ["y", "d_w_in"], cast))


@pytest.mark.parametrize("name", [
    name if n % 4 == 0 else pytest.param(name, marks=pytest.mark.thorough)
    for n, name in enumerate(wrong_ranks.BUGS)])
def test_every_bug_is_found_and_named_on_each_rank_that_it_shows_on(name):
    ref = problem(config_of(name), seed=3)
    seen = 0
    for rank, tensors in enumerate(wrong_ranks.run(name, ref.problem, ref.plan, N)):
        if all(np.allclose(value, ref.ranks[rank].got[key], rtol=1e-9)
               for key, value in tensors.items()):
            continue
        report = oracle.compare(ref, rank=rank, **handed_in(tensors))
        assert report.verdict == "fail", name
        assert any(wrong_ranks.BUGS[name].what in cause for cause in report.diagnosis), str(report)
        seen += 1
    assert seen


@pytest.mark.parametrize("top_k", [1, 2])
def test_rows_of_padding_are_right_if_their_answers_count_for_nothing(top_k):
    ref = problem(replace(config_of("padding_rows_answered"), top_k=top_k), seed=3)
    found = ranks.of(ref.problem, ref.plan, N, lambda parts: parts._replace(
        mixture=wrong_ranks.Padded(*parts.mixture)))
    for rank, truth in enumerate(found):
        report = oracle.compare(ref, rank=rank, complete=True, **handed_in(truth.got))
        assert report.ok, str(report)
        for name in ranks.EXPERTS:
            assert name not in truth.got or truth.got[name].shape[0] == 4 // N


@pytest.mark.parametrize("name", [next(iter(wrong_ranks.BUGS)), *(
    pytest.param(name, marks=pytest.mark.thorough) for name in list(wrong_ranks.BUGS)[1:])])
def test_bugs_are_named_in_float32_too(name):
    ref = problem(config_of(name), seed=4, precision="float32")
    tensors = wrong_ranks.run(name, ref.problem, ref.plan, N)[1]
    report = oracle.compare(ref, rank=1, **handed_in(
        tensors, cast=lambda value: value.astype(np.float32)))
    assert report.verdict == "fail" and wrong_ranks.BUGS[name].what in str(report)


def test_a_wrong_number_is_told_where_it_is_among_all_ranks():
    ref = problem()
    y = ref.ranks[1].got["y"].copy()
    token = int(np.flatnonzero(ref.plan.kept.any(axis=1)[16:])[0])
    y[token, 2] += 1
    w_in = ref.ranks[1].got["d_w_in"].copy()
    w_in[0, 1, 1] += 1
    report = oracle.compare(ref, rank=1, y=y, grads={"w_in": w_in})
    assert report.tensors["y"].at == (16 + token, 2)
    assert report.tensors["d_w_in"].at == (2, 1, 1) and "expert 2" in str(report)


def test_a_kernels_own_choice_at_a_near_tie_is_replayed_for_all():
    asked = oracle.draw(SwitchConfig(num_experts=4), 256, 8, 12, padding=5, precision="bfloat16")
    ref = oracle.reference(**asked, ranks=N)
    gap = np.diff(np.sort(ref.scores[128:], axis=1)[:, -2:], axis=1)[:, 0]
    gap[~ref.plan.kept[128:, 0]] = np.inf
    token = int(gap.argmin())
    expert = ref.plan.expert[128:].copy()
    expert[token] = np.argsort(ref.scores[128 + token])[-2]
    full = ref.plan.expert.copy()
    full[128:] = expert
    own = oracle.reference(**asked, plan=full, ranks=N).ranks[1]
    report = oracle.compare(ref, rank=1, expert=expert, precision="bfloat16",
                            **handed_in(own.got, ["y", "d_x", "d_w_in", "d_w_router"]))
    assert report.ok, str(report)


def test_what_does_not_fit_is_refused():
    ref = problem()
    with pytest.raises(ValueError, match=r"y must hold the 16 tokens of rank 0, in all 128"):
        oracle.compare(ref, rank=0, y=ref.y)
    with pytest.raises(ValueError, match="rank must be below 2, got 2"):
        oracle.compare(ref, rank=2, y=ref.ranks[0].got["y"])
    alone = oracle.reference(**oracle.draw(CONFIG, 8, 4, 4))
    with pytest.raises(ValueError, match="reference made with ranks="):
        oracle.compare(alone, rank=0, y=alone.y)
    assert ranks.whole("z_loss", np.ones(()), 0, np.zeros(()), N) == 1
