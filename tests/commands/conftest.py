"""The command line in this process, in a folder of its own, and tiny runs to use it on."""

import contextlib
import io
import os
import shutil

import pytest

from switch_np.__main__ import main
from switch_np.commands import generated_text, progress

SIZES = ["--d-model", "8", "--d-ff", "16", "--num-heads", "2", "--num-layers", "2", "--seq-len",
         "16", "--batch-size", "4", "--warmup", "3"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True, scope="session")
def short_examples():
    """Let the models of tiny runs, which know nothing, write little at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated_text, "EXAMPLE", {"lm": 20, "pairs": 5})
        yield


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave out the pictures, which take longer than a tiny run, where nobody looks at them."""
    monkeypatch.setattr(progress, "draw", lambda *_: None)


@pytest.fixture(scope="session")
def call():
    """Return what runs a command as `python -m switch_np` does, without starting a process."""
    def run(*words, status=0):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                found = main(words)
            except SystemExit as exit:              # argparse's own way out
                found = exit.code
        assert found == status, err.getvalue()
        assert "Traceback" not in err.getvalue()
        return out.getvalue(), err.getvalue()

    return run


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(b"pack my box with five dozen liquor jugs. " * 60)
    return str(path)


@pytest.fixture(scope="session")
def tiny(text):
    """Return the words that begin a run of a tiny model with 3 experts."""
    return ["train", *SIZES, "--text", text, "--num-experts", "3"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory, call, tiny):
    """Return a folder with two runs of two steps, without pictures: `a`, and `spans` of bytes."""
    folder, before = tmp_path_factory.mktemp("trained"), os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "draw", lambda *_: None)
        patch.chdir(folder)
        call(*tiny, "--steps", "2", "--name", "a")
        call(*tiny, "--steps", "2", "--name", "spans", "--task", "span", "--dropout", "0.1")
    assert os.getcwd() == before
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """Return the folder runs/ with copies of both."""
    return shutil.copytree(trained / "runs", tmp_path / "runs")
