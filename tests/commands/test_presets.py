"""`python -m switch_np presets NAME`: what it says, and what it says of a name that is none."""

import pytest

import switch_np as snp
from switch_np.__main__ import main


@pytest.mark.parametrize("name", snp.presets())
def test_a_preset_is_told_in_words(name, capsys):
    assert main(["presets", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    preset = snp.presets()[name]
    assert lines[:3] == [name, f"source: {preset.source}", f"weights: {preset.weights}"]
    said = snp.SwitchConfig.like(name).differences(snp.SwitchConfig())
    sentences = [sentence.replace("; the other: ", "; the paper: ") for sentence in said]
    assert [line[2:] for line in lines if line.startswith("- ")] == [*preset.leaves_out, *sentences]
    assert ("against the paper: nothing" in lines) is (name == "paper")
    assert ("left out: nothing" in lines) is (not preset.leaves_out)


def test_several_are_told_one_after_the_other(capsys):
    main(["presets", "tutel", "paper"])
    both = capsys.readouterr().out
    alone = []
    for name in ("tutel", "paper"):
        main(["presets", name])
        alone.append(capsys.readouterr().out)
    assert both == "\n".join(alone)


def test_an_unknown_name_is_one_line_with_the_nearest(capsys):
    assert main(["presets", "paper", "mixtral"]) == 2
    out, error = capsys.readouterr()
    assert not out and error.count("\n") == 1
    assert "got 'mixtral'; did you mean 'hf_mixtral'?" in error
