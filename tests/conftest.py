"""Options of the test suite."""

from pathlib import Path

HERE = Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption("--golden", type=Path, default=HERE / "golden", metavar="DIR",
                     help="folder of recorded layers of other libraries, in place of tests/golden")


def pytest_generate_tests(metafunc):
    if "golden" in metafunc.fixturenames:
        folder = metafunc.config.getoption("--golden")
        paths = [path for path in sorted(folder.glob("*.json"))
                 if not path.stem.startswith("hf_switch_model")]
        if not paths:
            raise FileNotFoundError(f"--golden: no recorded case in {folder}")
        metafunc.parametrize("golden", paths, ids=[path.stem for path in paths])
