"""Docstrings, checks and descriptions come from the knobs, and leave none out."""

import inspect
from dataclasses import fields, replace

import pytest

import switch_np as snp
from switch_np.conventions import knobs

BOTH = [snp.SwitchConfig, snp.Conventions]
KNOBS = [pytest.param(cls, name, knob, id=name)
         for cls in BOTH for name, knob in knobs.of(cls).items()]


@pytest.mark.parametrize("cls, name, knob", KNOBS)
def test_every_value_has_its_own_description(cls, name, knob):
    values = list(knob.literals)
    if knob.kind is not None:
        values += [knob.kind(1 + (knob.least or 0)), knob.kind(2 + (knob.least or 0))]
    if knob.below == 1:
        values[-2:] = [0.25, 0.5]
    said = [knobs.describe(cls, name, value) for value in values]
    assert len(set(said)) == len(said) > 1 and all(said) and knob.topic
    knobs.describe(cls, name, getattr(cls, name))                     # the default is allowed
    if not isinstance(knob.needs, str):
        assert set(knob.needs) <= set(knob.literals)


@pytest.mark.parametrize("cls, name, knob", KNOBS)
def test_the_docstring_describes_the_field_and_each_of_its_values(cls, name, knob):
    kind, default = cls.__dataclass_fields__[name].type, getattr(cls, name)
    kind = kind.__name__ if isinstance(kind, type) else kind
    doc = cls.__doc__
    parameters = doc[doc.index("Parameters\n----------\n"):doc.index("\n\nExamples\n--------\n")]
    begin = f"\n{name} : {kind}, default {default!r}\n"
    assert parameters.count(begin) == 1
    told = parameters.split(begin)[1].split("\n    ")
    text = " ".join(" ".join(line for line in told).split("\n" + name)[0].split())
    assert knob.topic in text and " ".join(knob.about.split()) in text
    assert knob.bounds in text.lower()
    for value, words in knob.values.items():
        if knob.values is not knobs.YES_NO and not isinstance(value, type):
            who = knob.needs.get(value) if isinstance(knob.needs, dict) else None
            assert f"- {value!r}: {words}" + (f" ({who})" if who else "") in text
    if knob.needs and isinstance(knob.needs, str):
        assert f"Needed by {knob.needs}." in text


@pytest.mark.parametrize("cls", BOTH)
def test_the_docstring_fits_a_terminal_and_keeps_its_examples(cls):
    assert max(map(len, cls.__doc__.split("\n"))) <= 96
    assert ">>> " in cls.__doc__.split("Examples\n")[1]
    assert list(inspect.signature(cls).parameters) == [f.name for f in fields(cls)]
    assert "Parameters" in inspect.getdoc(cls)


@pytest.mark.parametrize("make, message", [
    (lambda: snp.SwitchConfig(renorm="pre"),
     "renorm is a field of Conventions: write SwitchConfig(conventions=snp.Conventions("
     "renorm='pre')) or SwitchConfig.like('paper', renorm='pre')"),
    (lambda: replace(snp.SwitchConfig(), gate_scale=2.0),
     "gate_scale is a field of Conventions: write SwitchConfig(conventions=snp.Conventions("
     "gate_scale=2.0)) or SwitchConfig.like('paper', gate_scale=2.0)"),
    (lambda: snp.SwitchConfig(num_expert=4),
     "SwitchConfig has no field 'num_expert'; did you mean 'num_experts'?"),
    (lambda: snp.SwitchConfig(renrom="pre"),
     "SwitchConfig has no field 'renrom'; did you mean 'renorm'?"),
    (lambda: snp.Conventions(renrom="pre"),
     "Conventions has no field 'renrom'; did you mean 'renorm'?"),
    (lambda: snp.Conventions(wxyz=1), "Conventions has no field 'wxyz'")])
def test_an_unknown_keyword_is_answered_by_its_owner_or_the_nearest(make, message):
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value) == message


def test_what_the_message_says_to_write_is_right():
    written = [snp.SwitchConfig(conventions=snp.Conventions(renorm="pre")),
               snp.SwitchConfig.like("paper", renorm="pre")]
    assert written[0] == written[1] != snp.SwitchConfig()


def test_like_names_the_nearest_field():
    with pytest.raises(ValueError, match="got 'second'; did you mean 'second_policy'"):
        snp.SwitchConfig.like("mesh_tf_top2", second="all")
    with pytest.raises(ValueError, match="and Conventions, got 'num_expert'; did you mean 'num_e"):
        snp.SwitchConfig.like("mesh_tf_top2", num_expert=3)


def test_differences_call_the_other_as_asked():
    mine, other = snp.SwitchConfig.like("hf_mixtral"), snp.SwitchConfig()
    own = knobs.differences(mine, other, "the paper")
    assert own == [said.replace("; the other: ", "; the paper: ")
                   for said in mine.differences(other)]
    assert knobs.differences(mine.conventions, other.conventions, "the paper") == own[3:]
    with pytest.raises(TypeError, match="other must be a SwitchConfig"):
        knobs.differences(mine, other.conventions)


def test_describe_refuses_unknown_names_and_values():
    with pytest.raises(ValueError, match=r"name must be one of 'scores', .* got 'x'"):
        knobs.describe(snp.Conventions, "x", 1)
    with pytest.raises(ValueError, match=r"scores must be one of 'softmax', .* got 'x'"):
        knobs.describe(snp.Conventions(), "scores", "x")
