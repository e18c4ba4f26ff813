"""The pytest plugin, in a pytest of its own; and what importing the oracle costs."""

import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALLED = "moe_oracle" in [entry.name for entry in entry_points(group="pytest11")]
PLUGIN = [] if INSTALLED else ["-p", "switch_np.pytest_plugin"]


def run(folder, text, *options):
    (folder / "test_it.py").write_text(textwrap.dedent(text))
    command = [sys.executable, "-m", "pytest", "-q", *PLUGIN, "-p", "no:cacheprovider",
               "--rootdir", str(folder), "-W", "error", *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_fixtures_give_problems_and_the_oracle(tmp_path):
    found = run(tmp_path, """
        import pytest

        @pytest.mark.moe_cases("padding", "mixtral")
        def test_right(moe_oracle, moe_case):
            ref = moe_oracle.reference(**moe_case)
            moe_oracle.assert_matches(ref, y=ref.y, grads=ref.grads)

        @pytest.mark.moe_cases("padding")
        def test_wrong(moe_oracle, moe_case):
            ref = moe_oracle.reference(**moe_case)
            moe_oracle.assert_matches(ref, y=2 * ref.y)

        @pytest.mark.moe_cases("switch_drops")
        def test_out_of_range(moe_oracle, moe_case):
            moe_case["d_y"] *= 1e6
            ref = moe_oracle.reference(**moe_case)
            moe_oracle.assert_matches(ref, y=ref.y, precision="float16")
        """, "-rsp").stdout
    assert "1 failed, 2 passed, 1 skipped" in found, found
    assert "test_right[padding]" in found and "multiplied by 2 (k" in found
    assert "more than a quarter of 65504" in found


def test_unknown_names_are_an_error(tmp_path):
    found = run(tmp_path, """
        import pytest

        @pytest.mark.moe_cases("none_such")
        def test_it(moe_case):
            pass
        """)
    assert found.returncode and "moe_cases must name problems among switch_drops" in found.stdout


def test_without_a_fixture_nothing_is_imported(tmp_path):
    found = run(tmp_path, """
        import sys

        def test_it():
            assert "switch_np.pytest_plugin" in sys.modules
            assert not {"switch_np.oracle", "numpy"} & set(sys.modules)
        """)
    assert found.returncode == 0, found.stdout


def test_the_oracle_is_light():
    code = ("import time, numpy, sys; begin = time.process_time(); import switch_np.oracle; "
            "print(time.process_time() - begin, {'torch', 'jax', 'pytest'} & set(sys.modules))")
    best = min(float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                                    check=True, cwd=ROOT).stdout.split()[0]) for _ in range(4))
    assert best < 0.2
