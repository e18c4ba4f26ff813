"""The table of transformers' families: whole, true to the layouts, and each runs by its name."""

import numpy as np
import pytest

import switch_np as snp
from switch_np.conventions import layouts
from switch_np.conventions.families import FAMILIES, LOSSES
from switch_np.conventions.libraries import PRESETS


def test_it_has_all_folders_in_all_groups():
    assert len(FAMILIES) == 76 and not FAMILIES.keys() & PRESETS.keys()
    assert {row.group for row in FAMILIES.values()} == {*range(1, 36)}
    assert sum(not row.alone for row in FAMILIES.values()) == 64
    assert sum(row.loss == "pooled" for row in FAMILIES.values()) == 31
    for name, row in FAMILIES.items():
        assert row.base in PRESETS or list(FAMILIES).index(row.base) < list(FAMILIES).index(name)
        assert row.loss in LOSSES and 1 <= row.top_k <= row.experts
        assert bool(row.line) or not row.alone
    used = {part.rstrip("?") for row in FAMILIES.values() for part in row.weights.split()}
    assert used == set(layouts.PARTS)


@pytest.mark.parametrize("name", [name for name, row in FAMILIES.items() if not row.alone])
def test_every_family_runs_by_its_name(name, rng):
    config = snp.SwitchConfig.like(name, num_experts=8)
    params = snp.switch_layer.init(rng, d_model=4, d_ff=6, config=config)
    x, d_y = rng.standard_normal((2, 2, 5, 4))
    out, cache = snp.switch_layer.forward(params, x, config)
    d_x, grads = snp.switch_layer.backward(d_y, cache, 0.01, 0.01)
    assert np.isfinite(out.y).all() and d_x.shape == x.shape and grads.keys() == params.keys()
    assert (out.balance_loss > 0) == (FAMILIES[name].loss != "none")
    preset = snp.presets()[name]
    if preset.same_as:
        same = snp.SwitchConfig.like(preset.same_as, num_experts=8, top_k=config.top_k)
        assert config == same


def test_groups_and_choices_shrink_to_what_fits():
    config = snp.SwitchConfig.like("deepseek_v3", num_experts=16)
    assert (config.top_k, config.conventions.select_groups) == (8, 8)
    config = snp.SwitchConfig.like("deepseek_v3", num_experts=4)
    assert (config.top_k, config.conventions.select_groups) == (2, 2)
    assert snp.SwitchConfig.like("qwen3_next", num_experts=4).top_k == 4


@pytest.mark.parametrize("name", [name for name, row in FAMILIES.items() if row.alone])
def test_a_family_without_a_preset_says_why_and_what_instead(name):
    with pytest.raises(ValueError, match=f"got '{name}', (some )?(of )?(whose|which) .*: "):
        snp.SwitchConfig.like(name)


def test_a_preset_by_name_takes_sizes_from_the_weights(rng):
    config = snp.SwitchConfig.like("qwen2_moe", num_experts=4, shared_width=7)
    params = snp.switch_layer.init(rng, d_model=6, d_ff=5, config=config)
    x = rng.standard_normal((9, 6))
    ref, same = (snp.oracle.reference(x, params, by) for by in ("qwen2_moe", config))
    assert ref.problem.config.conventions.shared_width == 7
    np.testing.assert_array_equal(ref.y, same.y)
