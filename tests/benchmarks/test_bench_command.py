"""`python -m switch_np bench` as a person uses it, at sizes that take seconds."""

import csv

import pytest

from benchmarks import cases, command, parts, peers, settings
from switch_np.__main__ import main
from switch_np.commands import bench

TINY = cases.sizes(64, 8, 4)


def test_the_command_writes_tables_and_a_picture(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cases, "LAYERS", {"tiny": TINY})
    monkeypatch.setattr(cases, "TOKENS", {"64": TINY, "128": cases.sizes(128, 8, 4)})
    monkeypatch.setattr(cases, "EXPERTS", {str(n): cases.sizes(64, 8, n) for n in (1, 4)})
    monkeypatch.setattr(cases, "CAPACITIES", {"0.5": cases.sizes(64, 8, 4, 0.5)})
    monkeypatch.setattr(peers, "LAYER", [spec for spec in peers.LAYER
                                         if not spec.needs and spec.setting == "pool"])
    names = ["layer", "tokens", "experts", "capacity"]
    assert main(["bench", *names, "--rounds", "1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| tiny | switch_np     | pool    |" in out
    for name in names:
        with open(tmp_path / f"{name}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert rows and all(list(row.values()) for row in rows)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    claims = command.read(tmp_path / "claims.csv")
    assert any(row["claim"] == "layer, 4 experts: to its bare products" and row["limit"] == 1.25
               and (row["holds"] == "yes") == (row["found"] <= 1.25) for row in claims)
    experts = command.read(tmp_path / "experts.csv")
    assert experts[0]["growth"] == 0 and experts[1]["params_MiB"] > 3 * experts[0]["params_MiB"]
    capacity, = command.read(tmp_path / "capacity.csv")
    assert capacity["kept"] <= 0.5


@pytest.mark.parametrize("words, message", [
    (["dance"], "PART must be among layer, step, tokens, experts, capacity, memory, breakdown, "
                "all, got 'dance'"),
    (["layer", "--rounds", "0"], "--rounds must be at least 1, got 0")])
def test_mistakes_get_a_line(words, message, capsys):
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_package_alone_says_where_the_benchmarks_are(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("switch_np.__file__", str(tmp_path / "switch_np" / "__init__.py"))
    assert main(["bench", "layer"]) == 2
    assert "come with the repository in tests/benchmarks/" in capsys.readouterr().err


def test_the_command_knows_the_parts_and_settings():
    assert bench.PARTS == tuple(parts.PARTS) and bench.SETTINGS == tuple(settings.SETTINGS)
