"""Other choices from the same scores: groups, biases, precision or the order of service wrong."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from switch_np.conventions import choose
from switch_np.conventions.noise import Noise
from switch_np.operations.precision import round_to
from switch_np.operations.queues import largest
from switch_np.oracle.explain.causes import Evidence, likeliest
from switch_np.oracle.judge.choices import same_experts
from switch_np.oracle.truth.reference import Reference, planned
from switch_np.switch.plan import Plan, fill


def recognise(evidence: Evidence) -> list[str]:
    """Return the choices under which the kernel is right, the likeliest first."""
    fits: dict[str, float] = {}
    ref, p = evidence.ref, evidence.ref.problem
    plans = [(text, planned(p, replace(ref.plan, expert=expert_TK)))
             for text, expert_TK in _choices(ref)
             if not same_experts(expert_TK, ref.plan.expert).all()]
    for text, plan in plans + _orders(ref):
        if evidence.decides_so(plan.expert, plan.kept) and (found := evidence.given_by(p, plan)):
            fits[text] = evidence.total(found[1])
    return likeliest(fits)


def _orders(ref: Reference) -> list[tuple[str, Plan]]:
    """Return the plan in which later choices are served first, where that drops others."""
    p, plan = ref.problem, ref.plan
    if p.alone or p.config.conventions.priority != "choice" or (
            p.config.conventions.chooser != "tokens"):
        return []
    kept_TK = fill(plan.expert[:, ::-1], plan.load.shape[1], num_groups=len(plan.load),
                   capacity=plan.capacity, padding_T=~p.served_T).kept[:, ::-1]
    if (kept_TK == plan.kept).all():
        return []
    return [("second choices take slots before first ones", planned(p, plan, kept_TK))]


def _choices(ref: Reference) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what is done differently, and the experts (T, K) that it chooses."""
    p, k = ref.problem, ref.plan.expert.shape[1]
    conventions, noise = p.config.conventions, p.noise or Noise()
    if p.alone or conventions.chooser != "tokens" or conventions.second_choice != "largest":
        return
    bias_E = p.params.get("select_bias")

    def ranked(bias_E: np.ndarray | None, groups: int = 1) -> np.ndarray:
        kept = conventions.select_groups_kept if groups > 1 else 1
        changed = replace(conventions, select_groups=groups, select_groups_kept=kept)
        return choose.ranked(ref.probs, ref.logits, changed, noise, bias_E)

    groups, free_TE = conventions.select_groups, ranked(bias_E)
    if groups > 1:
        open_TE = np.isfinite(ranked(bias_E, groups))
        yield ("closed groups of experts score 0, want -inf: a negative selection bias lets them "
               "win", largest(np.where(open_TE, free_TE, 0), k))
        yield "experts are chosen without regard to groups", largest(free_TE, k)
        best = conventions.select_group_best
        ways = {1: "its best score", free_TE.shape[1] // groups: "the sum of all its scores",
                2: "the sum of its two best scores"}
        want = ways.get(best, f"the sum of its {best} best scores")
        for other, text in ways.items():
            by_group = choose.group_scores(free_TE, replace(conventions, select_group_best=other))
            closed_TE = choose.close_groups(free_TE, by_group, conventions.select_groups_kept)
            yield f"a group's score is {text}, want {want}", largest(closed_TE, k)
    if bias_E is not None:
        yield "the selection bias is left out of the choice", largest(ranked(None, groups), k)
        yield "the selection bias is subtracted", largest(ranked(-bias_E, groups), k)
        for precision in ("bfloat16", "float16"):
            yield (f"the selection bias is rounded to {precision} before the choice",
                   largest(ranked(round_to(bias_E, precision), groups), k))
    yield "the experts with the lowest scores are chosen", largest(-free_TE, k)
    for some in (free_TE.shape[1] // parts for parts in (2, 4, 8)):
        if some >= max(k, 2):
            yield (f"only experts 0 to {some - 1} are ever chosen",
                   largest(ranked(bias_E, groups)[:, :some], k))
    if 1 < k < free_TE.shape[1]:
        yield ("the best expert is skipped, and the next one taken",
               largest(ranked(bias_E, groups), k + 1)[:, 1:])
