"""`python -m switch_np presets`: its table, what it says of a name, and of one that is none."""

import pytest

import switch_np as snp
from switch_np.conventions.families import FAMILIES
from switch_np.conventions.libraries import PRESETS


def test_the_table_fits_a_terminal_and_has_all_of_transformers(call):
    head, *rows, empty, _ = call("presets")[0].splitlines()
    assert max(map(len, (head, *rows))) <= 100 and not empty
    verdicts = {row.split()[0]: row[86:] for row in rows}
    assert list(verdicts) == list(snp.presets() | FAMILIES) and len(FAMILIES) == 76
    assert verdicts["paper"] == "loops" and verdicts["hf_switch"] == "recorded"
    assert sum(verdicts[name] == "live" for name in FAMILIES) == 64
    assert {verdicts[name] for name in ("megatron", "phimoe", "doge")} == {
        "reading", "experts alone", "none"}
    assert "as glm4_moe but renorm='none'" in next(row for row in rows if row.startswith("dots1 "))


def test_a_family_without_a_preset_is_told_with_the_way_by_experts_alone(call):
    assert call("presets", "phimoe")[0].splitlines()[2:4] == [
        "no preset: a layer whose router is SparseMixer", "instead: experts alone: as mixtral's"]
    assert "like: mixtral\n" in call("presets", "minimax")[0]
    assert "like: mixtral, with other settings\n" in call("presets", "qwen3_moe")[0]


@pytest.mark.parametrize("name", [*PRESETS, "qwen3_moe", "minimax", "gpt_oss"])
def test_a_preset_is_told_in_words(name, call):
    lines, preset = call("presets", name)[0].splitlines(), snp.presets()[name]
    assert lines[:3] == [name, f"source: {preset.source}", f"weights: {preset.weights}"]
    config = snp.SwitchConfig.like(name)
    assert f"experts: {config.num_experts} by default" in lines
    said = config.differences(snp.SwitchConfig(num_experts=config.num_experts))
    sentences = [sentence.replace("; the other: ", "; the paper: ") for sentence in said]
    assert [line[2:] for line in lines if line.startswith("- ")] == [*preset.leaves_out, *sentences]
    assert ("differences: nothing" in lines) is (name == "paper")
    assert ("left out: nothing" in lines) is (not preset.leaves_out)


def test_several_are_told_one_after_the_other(call):
    one, other = (call("presets", name)[0] for name in ("tutel", "paper"))
    assert call("presets", "tutel", "paper")[0] == f"{one}\n{other}"


def test_an_unknown_name_is_one_line_with_the_nearest(call):
    out, error = call("presets", "paper", "mixtrol", status=2)
    assert not out and error.count("\n") == 1
    assert "got 'mixtrol'; did you mean 'mixtral'?" in error
