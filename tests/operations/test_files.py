"""Files appear whole or not at all, and nothing is left beside them."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from switch_np.commands.run_folder import Metrics
from switch_np.experiments import results
from switch_np.operations import files
from switch_np.training import checkpoint


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_what_fails_leaves_the_older_file_and_nothing_beside_it(tmp_path, error):
    path = tmp_path / "a" / "b.txt"
    files.write_text(path, "ä\n")
    with pytest.raises(type(error)), files.replacing(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == "ä\n".encode() and os.listdir(path.parent) == ["b.txt"]


def metrics(path):
    rows = object.__new__(Metrics)
    rows.path, rows.columns, rows.rows, rows.run = path, ["step"], [[1]], SimpleNamespace()
    rows.write()


@pytest.mark.parametrize("write", [
    metrics, lambda path: results.write_csv(path, [{"step": 1}]),
    lambda path: checkpoint.save(path, {"w": np.ones(2)}, {})], ids=["metrics", "csv", "npz"])
def test_every_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, write):
    calls = []
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, lambda *args, name=name, done=getattr(os, name): (
            calls.append(name), done(*args)))
    write(tmp_path / "new" / "file")
    assert calls == ["fsync", "replace"] and os.listdir(tmp_path / "new") == ["file"]
    monkeypatch.setattr(os, "fsync", lambda file: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "new" / "file")
    assert os.listdir(tmp_path / "new") == ["file"]


def test_two_processes_that_write_one_file_do_not_share_a_temporary_one(tmp_path):
    path = tmp_path / "file"
    with files.replacing(path) as file:
        file.write(b"ours")
        child = os.fork()
        if not child:
            files.write_text(path, "theirs")
            os._exit(0)
        os.waitpid(child, 0)
        assert path.read_text() == "theirs"
    assert path.read_bytes() == b"ours" and os.listdir(tmp_path) == ["file"]
