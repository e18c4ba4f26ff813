"""The options themselves: names, choices, and combinations that are refused."""

import copy
import pickle
from dataclasses import asdict, fields, replace

import pytest

import switch_np as snp
from switch_np.conventions import knobs
from switch_np.conventions.table import CHOICES, Conventions


def test_every_field_is_a_knob_under_a_name_of_its_own():
    both = [snp.SwitchConfig, snp.Conventions]
    names = [f.name for cls in both for f in fields(cls) if f.name != "conventions"]
    assert [name for cls in both for name in knobs.of(cls)] == names
    assert len(set(names)) == len(names)


def test_choices_are_the_knobs_of_strings_alone():
    assert CHOICES["renorm"] == ("none", "pre", "post")
    for name, options in CHOICES.items():
        assert getattr(snp.Conventions, name) == options[0]
        with pytest.raises(ValueError, match=f"{name} must be one of '{options[0]}', .*got 'x'"):
            snp.Conventions(**{name: "x"})
    assert {"renorm_eps", "select_bias", "select_groups"}.isdisjoint(CHOICES)


def test_a_config_is_still_an_ordinary_dataclass():
    config = snp.SwitchConfig(4, 2, conventions=snp.Conventions("sigmoid", renorm="pre"))
    assert config.top_k == 2 and config.conventions.scores == "sigmoid"
    assert snp.SwitchConfig(**asdict(config)) == config
    assert replace(config, top_k=1).top_k == 1
    for same in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config)):
        assert same == config and hash(same) == hash(config)
    with pytest.raises(TypeError, match=r"multiple values"):
        snp.SwitchConfig(4, num_experts=4)


@pytest.mark.parametrize("settings, message", [
    ({"renorm": "sum"}, "renorm must be one of 'none', 'pre', 'post', got 'sum'"),
    ({"select_bias": 1}, "select_bias must be True or False, got 1"),
    ({"select_groups": 0}, "select_groups must be at least 1, got 0"),
    ({"capacity_multiple_of": 0}, "capacity_multiple_of must be at least 1, got 0"),
    ({"select_groups_kept": 2}, "select_groups_kept must be at most select_groups, 1, got 2"),
    ({"renorm_eps": -1.0}, "renorm_eps must be finite, at least 0, got -1.0"),
    ({"renorm_eps": "eps"}, "renorm_eps must be one of 'finfo', got 'eps'"),
    ({"renorm_power": 0.5}, "renorm_power must be finite, at least 1, got 0.5"),
    ({"gate_scale": "2"}, "gate_scale must be a number, got '2'"),
    ({"eval_capacity_fraction": -0.1}, "eval_capacity_fraction must be finite, at least 0"),
    ({"dispatch_gradient": "straight_through", "gate_at": "both"}, "must go with gate_at='output'"),
    ({"chooser": "experts", "second_policy": "none"},
     "second_policy must be 'all' with chooser='experts'")])
def test_conventions_refuse(settings, message):
    with pytest.raises((TypeError, ValueError), match=message.replace("(", r"\(")):
        Conventions(**settings)


@pytest.mark.parametrize("settings, message", [
    ({"conventions": "hf"}, "conventions must be a Conventions, got 'hf'"),
    ({"conventions": {"renorm": "pre"}}, "conventions must have the keys"),
    ({"num_experts": 6, "conventions": Conventions(select_groups=4)},
     "select_groups must divide num_experts, 6, got 4"),
    ({"top_k": 3, "num_experts": 8, "conventions": Conventions(select_groups=4)},
     "top_k must be at most the experts of select_groups_kept groups, 2, got 3"),
    ({"conventions": Conventions(second_balance=True)},
     "top_k must be at least 2 with second_balance=True, got 1"),
    ({"sample": True, "conventions": Conventions(chooser="experts")},
     "sample must be False with chooser='experts'")])
def test_config_refuses(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        snp.SwitchConfig(**settings)
