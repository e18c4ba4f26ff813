"""The README of the experiments: every number of ours in its table is that of the kept results."""

import re
from pathlib import Path

import numpy as np
import pytest

from switch_np import experiments
from switch_np.experiments import distillation, figure4, results, table1, table2, table3

README = (Path(experiments.__file__).parent / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\w[^|]*) \| ([^|]*) \| ([^|]*) \| (holds weakly|holds|does not show)"
                  r"[^|]* \| ([^|]*) \|$", README, re.MULTILINE)


def row(claim):
    """Return what README says of a claim: the paper's number, ours, the verdict, the reason."""
    return next(rest for text, *rest in ROWS if text.startswith(claim))


def means(name, column="bits_per_byte"):
    values = results.by_arm(experiments.read(name).rows, column)
    return {arm: numbers.mean() for arm, numbers in values.items()}


def table_1():
    found, bits = experiments.read("table1"), means("table1")
    wide, packed = (table1.step_ratios(found.speed, "wide", how) for how in ("buffers", "packed"))
    toy = table1.step_ratios(found.speed, "toy", "buffers")
    reached = {arm: np.mean(steps) * toy[arm]
               for arm, steps in table1.steps_to_threshold(found).items()}
    yield "Switch beats dense", [f"{bits['switch-1.25']:.3f}", f"{bits['dense']:.3f}"], (
        bits["switch-1.25"] < bits["dense"])
    yield "Switch beats the mixture", [
        f"{bits['switch-2.0']:.3f}", f"{bits['moe-2.0']:.3f}", f"{reached['switch-1.0']:.0f}",
        f"{reached['moe-1.25']:.0f}"], bits["switch-2.0"] < bits["moe-2.0"]
    switch, moe = (bits[f"{kind}-1.0"] - bits[f"{kind}-2.0"] for kind in ("switch", "moe"))
    yield "Switch bears small capacity", [f"{switch:.3f}", f"{moe:.3f}"], switch < moe
    yield "Switch is faster per step", [
        f"{ratios[f'{kind}-{factor}']:.2f}" for ratios in (wide, packed)
        for kind in ("switch", "moe") for factor in table1.FACTORS], all(
            table1.faster(found.speed, "wide").values())
    yield "Switch+", [f"{bits['switch-plus']:.3f}", f"{bits['moe-2.0']:.3f}"], (
        bits["switch-plus"] < min(bits[f"switch-{factor}"] for factor in table1.FACTORS))


def table_2():
    found = experiments.read("table2")
    ends = {mode: table2.at_ends(found, mode, 0.01)["end"].mean() for mode in table2.LABELS}
    flips = 100 * table2.at_ends(found, "bfloat16", 0.01)["router_flips"].mean()
    half, mixed = (ends[mode] - ends["float32"] for mode in ("bfloat16", "selective"))
    yield "All in bfloat16 diverges", [f"{half:.3f}", f"{flips:.1f} %"], half > 0.5
    yield "Selective precision", [f"{mixed:.3f}", *(
        f"{table2.megabytes(mode):.2f}" for mode in ("selective", "float32"))], mixed < 0.05


def table_3():
    found = experiments.read("table3")
    says = table3.leads(found)
    small, large, review = (
        {rate: -np.log(2) * bits.mean() for rate, bits in table3.by_scale(found, scale).items()}
        for scale in table3.SCALES)
    nats = [small[table3.COMPARED], large[table3.COMPARED]]
    yield "A smaller initialization", [f"{value:.2f}" for value in (
        *nats, says["std_small"], says["std_large"], says["lead_at_best"])], says["lead"] > 0
    best = max(review.values())
    yield "The review's initialization", [f"{best:.2f}"], best < min(nats) - 0.1


def table_4():
    quality = means("table4", "neg_log_perplexity")
    both, one, three, none, alone = (quality[f"switch-{name}"] for name in (
        "0.1-experts-0.4", "0.1", "0.3", "0", "0-experts-0.4"))
    numbers = [f"{value:.3f}" for value in (both, one, three, none, alone)]
    yield "Expert dropout", numbers, both > one > three


def figure_4():
    means_of = means("figure4")
    bits = {count: means_of[figure4.name_of(count)] for count in figure4.EXPERTS}
    without = means_of["experts-64-without-N"]
    yield "More experts", [f"{value:.3f}" for value in bits.values()], (
        max(bits[16], bits[32]) < min(bits[4], bits[8]) < bits[1])
    dropped = 100 * means("figure4", "dropped")["experts-64-without-N"]
    yield "The balance loss needs", [f"{without:.3f}", f"{bits[64]:.3f}", f"{dropped:.1f} %"], (
        bits[64] < without)


def noise():
    bits = means("noise")
    yield "Input jitter", [f"{value:.3f}" for value in bits.values()], (
        min(bits, key=bits.get) == "jitter" and max(bits, key=bits.get) == "sample")


def distilled():
    bits = means("distillation")
    shares = distillation.kept(bits)
    numbers = [f"{100 * shares[arm]:.0f} %" for arm in ("mixed-copied", "copied", "probabilities")]
    yield "A dense student keeps", numbers, 0.15 < shares["mixed-copied"] < 0.6
    why = row("A dense student keeps")[3]
    assert f"{bits['copied'] - bits['mixed-copied']:.3f} bits to" in why
    assert f"{bits['longer']:.3f} bits, the student {bits['mixed-copied']:.3f}" in why


@pytest.mark.parametrize("part", (table_1, table_2, table_3, table_4, figure_4, noise, distilled))
def test_claims_say_what_was_measured(part):
    for claim, numbers, holds in part():
        _, ours, verdict, _ = row(claim)
        assert [number for number in numbers if number not in ours] == [], claim
        assert (verdict in ("holds", "holds weakly")) == bool(holds), claim
