"""`python -m switch_np sizes` against the paper's table 9."""

import pytest

from switch_np.commands import sizes
from switch_np.switch.config import SwitchConfig

DIGIT = {"t5_base": 0.2e9, "t5_large": 0.7e9, "t5_xxl": 11e9, "switch_base": 7e9}


def test_every_design_has_a_row(call):
    rows = {line.split()[0]: line.split()[1:] for line in call("sizes")[0].splitlines()[1:14]}
    assert tuple(rows) == sizes.DESIGNS
    assert rows["switch_c"] == ["1,571,308,972,448", "1571B", "1,096B", "890B"]


@pytest.mark.parametrize("name", sizes.DESIGNS)
def test_sizes_are_the_papers_as_far_as_it_has_digits(name):
    found = sizes.parameters(name)
    if name in DIGIT:                                 # its one or two digits, cut or rounded
        last = 10 ** (8 if DIGIT[name] < 1e9 else 9)
        assert DIGIT[name] - last / 2 <= found < DIGIT[name] + last
    elif name == "switch_c":
        assert found == pytest.approx(1571e9, rel=0.0005)
    elif name == "switch_xxl":                        # 64 experts give half of the paper's 395B
        assert found == pytest.approx(201.26e9, rel=1e-3)
        layer = SwitchConfig.like("paper", num_experts=128, expert_gated=True)
        assert sizes.parameters(name, switch=layer) == pytest.approx(395e9, rel=0.002)
    elif name == "switch_large":                      # the experts alone are the paper's 26B
        assert found - sizes.parameters("t5_large") == pytest.approx(26.37e9, rel=0.001)


@pytest.mark.parametrize("name", sizes.PAPER)
def test_operations_are_near_the_papers(name):
    theirs = float(sizes.PAPER[name][1][:-1]) * (1e9 if sizes.PAPER[name][1][-1] == "B" else 1e12)
    assert 1.10 < sizes.operations(name) / theirs < 1.24
