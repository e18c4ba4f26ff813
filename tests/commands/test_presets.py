"""`python -m switch_np presets NAME`: what it says, and what it says of a name that is none."""

import pytest

import switch_np as snp


@pytest.mark.parametrize("name", snp.presets())
def test_a_preset_is_told_in_words(name, call):
    lines, preset = call("presets", name)[0].splitlines(), snp.presets()[name]
    assert lines[:3] == [name, f"source: {preset.source}", f"weights: {preset.weights}"]
    said = snp.SwitchConfig.like(name).differences(snp.SwitchConfig())
    sentences = [sentence.replace("; the other: ", "; the paper: ") for sentence in said]
    assert [line[2:] for line in lines if line.startswith("- ")] == [*preset.leaves_out, *sentences]
    assert ("against the paper: nothing" in lines) is (name == "paper")
    assert ("left out: nothing" in lines) is (not preset.leaves_out)


def test_several_are_told_one_after_the_other(call):
    one, other = (call("presets", name)[0] for name in ("tutel", "paper"))
    assert call("presets", "tutel", "paper")[0] == f"{one}\n{other}"


def test_an_unknown_name_is_one_line_with_the_nearest(call):
    out, error = call("presets", "paper", "mixtral", status=2)
    assert not out and error.count("\n") == 1
    assert "got 'mixtral'; did you mean 'hf_mixtral'?" in error
