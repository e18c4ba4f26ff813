"""pytest fixtures of the gradient oracle; nothing is imported until a test asks for one.

    def test_my_layer(moe_oracle, moe_case):
        ref = moe_oracle.reference(**moe_case)
        y, grads = my_layer(...)
        moe_oracle.assert_matches(ref, y=y, grads=grads)

`moe_oracle` is the module `switch_np.oracle`. `moe_case` gives the arguments of `reference` for
each problem of the vector set, or those that `@pytest.mark.moe_cases("padding", ...)` names.
pytest imports this file in every project; `switch_np` itself imports nothing until it is used.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", "moe_cases(*names): the problems that the fixture moe_case goes through")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the fixture each problem in turn; an unknown name is an error."""
    if "moe_case" in metafunc.fixturenames:
        from switch_np.oracle.vectors.cases import CASES

        marker = metafunc.definition.get_closest_marker("moe_cases")
        names = list(marker.args if marker else CASES)
        unknown = sorted(set(names) - set(CASES))
        if unknown or not names:
            raise pytest.UsageError(
                f"moe_cases must name problems among {', '.join(CASES)}, got {unknown or 'none'}")
        metafunc.parametrize("moe_case", names, indirect=True)


@pytest.fixture(scope="session")
def moe_oracle() -> ModuleType:
    """Return the module `switch_np.oracle`."""
    from switch_np import oracle

    return oracle


@pytest.fixture
def moe_case(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the arguments of `oracle.reference` for one problem."""
    from switch_np.oracle.vectors.cases import CASES

    return CASES[request.param].make()
