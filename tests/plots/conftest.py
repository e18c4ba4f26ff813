"""An empty Axes for each test."""

import pytest

from switch_np import plots


@pytest.fixture
def ax():
    return plots.figure()[1][0, 0]
