"""The README of the experiments: its table of claims is made of the kept results."""

import re
from pathlib import Path

import numpy as np
import pytest

from switch_np import experiments
from switch_np.experiments import memory, memory_rates, rates, results

FOLDER = Path(experiments.__file__).parent
README = (FOLDER / "README.md").read_text(encoding="utf-8")
JUDGED = [name for name in experiments.NAMES if experiments.load(name).claims]


def line(name, claim, effect):
    """Return the first four columns of a claim's row."""
    text = f"**{claim.text}**" if claim.primary else claim.text
    return (f"| {text} (`{name}`) | {claim.paper} | {effect.mean:+.3f} ± {effect.half:.3f} "
            f"{claim.unit} | {effect.size} {effect.samples} | {effect.grade} |")


@pytest.mark.parametrize("name", JUDGED)
def test_readme_has_each_claim_with_its_interval_and_grade(name):
    for claim, effect in experiments.claims(name).values():
        rows = [row for row in README.splitlines() if row.startswith(line(name, claim, effect))]
        assert len(rows) == 1, line(name, claim, effect)
        assert effect.samples != "seeds" or effect.size >= 5
    assert len(re.findall(rf"^\| .* \(`{name}`\) \|", README, re.MULTILINE)) == len(
        experiments.load(name).claims)


def test_a_sentence_with_another_grade_is_refused():
    name, (claim, effect) = JUDGED[0], next(iter(experiments.claims(JUDGED[0]).values()))
    assert experiments.confirm(name, claim.name, effect.grade) == effect
    other = next(grade for grade in ("holds", "contradicted") if grade != effect.grade)
    with pytest.raises(AssertionError, match=f"{claim.name}: .* and not {other}"):
        experiments.confirm(name, claim.name, other)
    with pytest.raises(ValueError, match="claim must be one of"):
        experiments.confirm(name, "unheard of", "holds")


@pytest.mark.thorough
def test_arms_of_two_tables_that_are_one_run_have_one_result():
    seen, shared = {}, 0
    for name in experiments.NAMES:
        found = experiments.read(name)
        for arm in experiments.load(name).arms:
            if arm.needs:
                continue
            mine = results.select(found.rows, arm=arm.name)
            columns = {column: values for column, values in mine.items()
                       if column != "arm" and values.dtype.kind == "f"
                       and not np.isnan(values).all()}
            for options, other, theirs in seen.values():
                if options == arm.options() and mine["seed"].tolist() == theirs["seed"].tolist():
                    shared += 1
                    for column, values in columns.items():
                        np.testing.assert_array_equal(values, theirs[column], f"{name}, {other}")
            seen[name, arm.name] = arm.options(), name, columns
    assert shared >= 5


@pytest.mark.parametrize("sweep, best, column", [
    ("rates", rates.BEST, "bits_per_byte"),
    ("memory-rates", {name: memory.BEST[name] for name in memory_rates.TRIED}, "nats")])
def test_each_model_has_the_best_rate_of_its_sweep(sweep, best, column):
    assert rates.best(experiments.read(sweep), column) == best
    judged = {seed for name in JUDGED for seed in experiments.load(name).kept}
    assert not judged & set(experiments.load(sweep).kept)
