"""The command line as a person uses it: train, stop, resume, sample, and get things wrong."""

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import unicodedata

import numpy as np
import pytest

from switch_np.__main__ import _in_its_environment as begin_anew
from switch_np.__main__ import main
from switch_np.commands import environment, progress, terminal
from switch_np.operations.rounded import Bfloat16
from switch_np.training import tasks, trainer
from switch_np.training.trainer import TrainConfig
from switch_np.transformer import embedding
from switch_np.transformer.model_config import ModelConfig

DENSE = ["--d-model", "8", "--d-ff", "16", "--num-heads", "2", "--num-layers", "2", "--seq-len",
         "16", "--batch-size", "4", "--warmup", "3"]
TINY = [*DENSE, "--num-experts", "3"]


def start(folder, *words):
    return subprocess.Popen([sys.executable, "-m", "switch_np", *words], cwd=folder, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave out the pictures, which take longer than a tiny run, where nobody looks at them."""
    monkeypatch.setattr(progress, "draw", lambda *_: None)


def call(*words, status=0):
    """Run a command in this process: as `python -m switch_np` does, without its start-up."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            found = main(words)
        except SystemExit as exit:              # argparse's own way out
            found = exit.code
    assert found == status, err.getvalue()
    return out.getvalue(), err.getvalue()


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"pack my box with five dozen liquor jugs. " * 60)
    return str(path)


def rows(folder, name):
    """Return metrics.csv without its column of seconds."""
    with open(folder / "runs" / name / "metrics.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"}
                for row in csv.DictReader(file)]


def test_train_leaves_all_that_it_promises_and_sample_writes(tmp_path, text):
    out, _ = call("train", *TINY, "--steps", "12", "--text", text)
    folder = tmp_path / "runs" / "run-1"
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "metrics.csv", "checkpoint.npz", "loss.png", "expert_load.png",
        "routing.png", "sample.txt"}
    assert "bits per byte, a byte bigram" in out and "runs/run-1/ holds" in out
    assert json.loads((folder / "config.json").read_text())["model"]["switch"]["num_experts"] == 3
    table = rows(tmp_path, "run-1")
    assert [int(row["step"]) for row in table] == list(range(1, 13))
    for row in table:
        assert abs(sum(float(row[f"load_1_{e}"]) for e in range(3)) - 1) < 1e-9
        assert np.isfinite(float(row["grad_norm"])) and 0 <= float(row["dropped"]) < 1
    assert table[-1]["held_out_bits_per_byte"]
    for name in ("loss", "expert_load", "routing"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    first, _ = call("sample", "run-1", "--prompt", "pack my", "--length", "20")
    again, _ = call("sample", "run-1", "--prompt", "pack my", "--length", "20")
    other, _ = call("sample", "run-1", "--prompt", "pack my", "--length", "20",
                    "--seed", "1")
    assert first == again != other and first.startswith("pack my")


@pytest.mark.usefixtures("no_pictures")
def test_two_runs_agree_and_a_stopped_one_goes_on_as_if_it_had_not_been(tmp_path, text):
    words = ["train", *TINY, "--steps", "200", "--text", text]
    call(*words, "--name", "whole")
    process = start(tmp_path, *words, "--name", "stopped")
    while not process.stdout.readline().startswith("step 1/"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and not err
    done = len(rows(tmp_path, "stopped"))
    if done < 200:
        assert f"stopped after step {done}" in out and "--resume --name stopped" in out
        call("train", "--resume", "--name", "stopped")
    assert rows(tmp_path, "whole") == rows(tmp_path, "stopped")
    with np.load(tmp_path / "runs/whole/checkpoint.npz") as one, \
            np.load(tmp_path / "runs/stopped/checkpoint.npz") as two:
        assert one.files == two.files
        for name in set(one.files) - {"state"}:
            np.testing.assert_array_equal(one[name], two[name], name)


def test_a_dense_run_has_no_picture_of_loads(tmp_path, text):
    call("train", *DENSE, "--dense", "--steps", "3", "--text", text, "--name", "dense")
    assert {path.name for path in (tmp_path / "runs/dense").glob("*.png")} == {"loss.png"}


@pytest.mark.usefixtures("no_pictures")
def test_top_2_and_float64_and_adafactor_train(tmp_path, text):
    for name, words in (("moe", [*TINY, "--top-k", "2"]),
                        ("rows", [*TINY, "--optimizer", "adafactor"]),
                        ("double", [*TINY, "--dtype", "float64", "--capacity-factor", "none"])):
        call("train", *words, "--steps", "3", "--text", text, "--name", name)
    with np.load(tmp_path / "runs/double/checkpoint.npz") as file:
        assert file["params.embedding.table"].dtype == np.float64
    with np.load(tmp_path / "runs/rows/checkpoint.npz") as file:
        assert file["moments.embedding.table.row"].shape == (256,)
    out, _ = call("train", "--resume", "--name", "rows")
    assert "all 3 steps were done before" in out


SPAN = ["--task", "span", *TINY, "--num-encoder-layers", "2", "--seq-len", "24"]


def test_a_run_in_bfloat16_writes_and_is_drawn_in_bfloat16(text, monkeypatch):
    seen, look_up = set(), embedding.forward
    monkeypatch.setattr(embedding, "forward", lambda table, ids: seen.add(
        type(table)) or look_up(table, ids))
    call("train", *TINY, "--steps", "2", "--dtype", "bfloat16", "--text", text)
    call("sample", "run-1", "--length", "3")
    assert seen == {Bfloat16}


def test_spans_are_trained_on_and_filled_in(tmp_path, text):
    out, _ = call("train", *SPAN, "--steps", "6", "--text", text, "--gated", "--activation",
                  "gelu_tanh", "--tie-embeddings", "none", "--optimizer", "adafactor")
    assert "2 + 2 blocks, Switch layers encoder.1, decoder.1 with 3 experts" in out
    assert "negative log perplexity (nats per token) -" in out and "a unigram -" in out
    sample = (tmp_path / "runs/run-1/sample.txt").read_text()
    before, after, original = sample.split("\n\n")[0].split("\n")
    assert before.startswith("before: ") and "[___]" in before and after.startswith("after:  ")
    plain = original.removeprefix("text:   ").replace("[", "").replace("]", "")
    assert plain in (b"pack my box with five dozen liquor jugs. " * 60).decode()
    table = rows(tmp_path, "run-1")
    assert float(table[-1]["neg_log_perplexity"]) == -float(table[-1]["cross_entropy"])
    assert float(table[-1]["held_out_neg_log_perplexity"]) < 0
    assert abs(sum(float(table[0][f"load_encoder.1_{e}"]) for e in range(3)) - 1) < 1e-9
    filled, _ = call("sample", "run-1", "--prompt", "pack ___ box ___ five", "--length", "30")
    assert filled.startswith("pack ") and " box " in filled
    _, err = call("sample", "run-1", "--prompt", "no blank", status=2)
    assert "prompt must hold 1 to 32 blanks, ___, for the model to fill in, got 0" in err


@pytest.mark.parametrize("every, kind, columns", [
    (2, "pooled", ["balance_encoder", "z_encoder", "balance_decoder", "z_decoder"]),
    (1, "transformers", ["balance_decoder", "z_decoder"])])
def test_pooled_losses_have_a_column_per_stack(tmp_path, text, no_pictures, every, kind, columns):
    config = ModelConfig(vocab_size=290, d_model=8, d_ff=8, num_heads=1, d_kv=8, num_layers=4,
                         num_encoder_layers=2, encoder_switch_every=every, router_losses=kind,
                         z_coef=1e-3)
    corpus = tasks.named("span").load([text])
    base = trainer.start(config, TrainConfig(task="span", seq_len=16), corpus)
    trainer.save(base, tmp_path / "runs/base/checkpoint.npz")
    words = ["--steps", "2", "--seq-len", "16", "--batch-size", "2"]
    call("train", "--task", "span", "--from", "base", "--text", text, "--name", "tuned", *words)
    table = rows(tmp_path, "tuned")
    assert [name for name in table[0] if name.startswith(("balance_", "z_"))] == columns
    for row in table:
        assert None not in row and not {None, ""} & set(row.values())
        losses = sum(float(row[name]) * (config.balance_coef if name.startswith("b") else
                                         config.z_coef) for name in columns)
        assert abs(float(row["loss"]) - float(row["cross_entropy"]) - losses) < 1e-5
        for name in config.switch_names:
            assert 0 <= float(row[f"dropped_{name}"]) <= 1
            load = [float(row[f"load_{name}_{e}"]) for e in range(16)]
            assert abs(sum(load) - 1) < 1e-9


@pytest.mark.usefixtures("no_pictures")
def test_a_run_is_fine_tuned_on_pairs_with_dropouts_of_its_own(tmp_path, text):
    call("train", *SPAN, "--steps", "3", "--text", text, "--name", "first", "--dropout", "0.1")
    (tmp_path / "pairs.tsv").write_text("".join(f"{n}+1\t{n + 1}\n" for n in range(60)))
    out, _ = call("train", "--task", "pairs", "--from", "first", "--text", "pairs.tsv", "--steps",
                  "3", "--name", "tuned", "--expert-dropout", "0.4", "--seq-len", "16")
    assert "54 pairs, 6 held out" in out and "target: " in out
    config = json.loads((tmp_path / "runs/tuned/config.json").read_text())
    assert config["model"]["dropout"] == 0.1                      # as it was
    assert config["model"]["switch"]["expert_dropout"] == 0.4     # as it was asked
    assert call("sample", "tuned", "--prompt", "1+1", "--temperature", "0")[0].endswith("\n")
    call("train", "--resume", "--name", "tuned")
    call("train", *TINY, "--vocab-size", "290", "--steps", "2", "--text", text, "--name", "alone")
    call("train", "--task", "pairs", "--from", "alone", "--text", "pairs.tsv", "--steps", "2",
         "--seq-len", "16", "--name", "decoder")
    for words, message in (
            (["--from", "first", "--d-ff", "16"], "--from goes on with the run's own model, got "
                                                  "--d-ff 16"),
            (["--from", "first", "--text", text], "num_encoder_layers must be 0 for the task 'lm'"),
            (["--from", "nowhere"], "the run must hold a checkpoint.npz, got 'nowhere'"),
            (["--task", "span", "--from", "alone", "--text", text],
             "--from must name a run whose model suits --task span, got 'alone', of --task lm: "
             "num_encoder_layers must be at least 1 for the task 'span', got 0"),
            (["--task", "pairs", "--from", "first"], "text must be given for the task 'pairs'")):
        assert message in call("train", *words, status=2)[1]


@pytest.mark.usefixtures("no_pictures")
def test_what_a_model_writes_cannot_steer_the_terminal(tmp_path, text):
    out, _ = call("train", *TINY, "--steps", "1", "--text", text)       # writes bytes at random
    sampled, _ = call("sample", "run-1", "--temperature", "9")
    for written in (out, sampled, (tmp_path / "runs/run-1/sample.txt").read_text()):
        assert "\\x" in written
        assert not [c for c in written if c != "\n" and unicodedata.category(c) == "Cc"]


@pytest.mark.crosscheck
def test_sample_reads_a_checkpoint_of_transformers(tmp_path):
    pytest.importorskip("safetensors")
    from switch_np import model
    from switch_np.exchange import hugging_face, pretrained_folder

    config = hugging_face.config({
        "vocab_size": 120, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_heads": 2, "num_layers": 2,
        "num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1,
        "num_experts": 2})
    pretrained_folder.save(tmp_path / "peer", model.init(np.random.default_rng(0), config), config)
    ids, _ = call("sample", "peer", "--ids", "5", "6", "7", "--length", "9")
    assert 1 <= len(ids.split()) <= 9 and all(0 <= int(n) < 120 for n in ids.split())
    assert ids == call("sample", "peer", "--ids", "5", "6", "7", "--length", "9")[0]
    assert call("sample", "peer", "--prompt", "Ab", "--length", "9")[0]
    for words, message in ((["--prompt", "x~"], "--prompt must hold bytes below the vocabulary"),
                           ([], "--prompt or --ids must be given"),
                           (["--ids", "120"], "source must lie in 0 .. 119")):
        assert message in call("sample", "peer", *words, status=2)[1]
    (tmp_path / "peer" / "model.safetensors").write_bytes(b"broken")
    assert "must be a readable safetensors file" in call("sample", "peer", "--ids", "1",
                                                         status=2)[1]


@pytest.mark.parametrize("words, message", [
    (["train", "--task", "span", "--seq-len", "1"], "seq_len must be at least 2, got 1"),
    (["train", "--task", "span", "--corruption", "1"], "corruption must be finite, at least 0 and"),
    (["train", "--task", "span", "--mean-span", "0"], "mean_span must be finite, at least 1"),
    (["train", "--task", "pairs"], "text must be given for the task 'pairs'"),
    (["train", "--encoder-layers", "1"], "num_encoder_layers must be 0 for the task 'lm', got 1"),
    (["train", "--top-k", "17"], "top_k must be at most num_experts, 16, got 17"),
    (["train", "--capacity-factor", "-1"],
     "capacity_factor must be finite, at least 0 and below 1e+200, got -1.0"),
    (["train", "--capacity-factor", "wide"], "argument --capacity-factor: invalid"),
    (["train", "--num-heads", "3"], "--num-heads must divide --d-model"),
    (["train", "--steps", "0"], "steps must be at least 1, got 0"),
    (["train", "--batch-size", "0"], "batch_size must be at least 1, got 0"),
    (["train", "--text", "nowhere.txt"], "text must be a readable file, got nowhere.txt"),
    (["train", "--resume"], "there must be a run to go on with, got none in runs/"),
    (["train", "--resume", "--name", "x"], "the run must hold a checkpoint.npz, got 'x'"),
    (["train", "--resume", "--steps", "7"], "--resume goes on with the run's own options, got --"),
    (["train", "--name", ".."], "--name must be a plain folder name, got '..'"),
    (["train", "--name", "."], "--name must be a plain folder name, got '.'"),
    (["train", "--name", "a/b"], "--name must be a plain folder name, got 'a/b'"),
    (["train", "--corruption", "0.3"], "--corruption must go with --task span, got 0.3 without"),
    (["train", "--mean-span", "2"], "--mean-span must go with --task span, got 2.0 without"),
    (["train", "--encoder-switch-every", "1"],
     "--encoder-switch-every must go with --task span or pairs, got 1 without"),
    (["train", "--dense", "--num-experts", "4"], "--num-experts must go with Switch layers, got 4"),
    (["train", "--dense", "--expert-dropout", "0.1"], "--expert-dropout must go with Switch layer"),
    (["train", "--switch-every", "0", "--capacity-factor", "2"], "--capacity-factor must go with"),
    (["train", "--dense", "--switch-every", "1"], "--switch-every must go with Switch layers"),
    (["train", "--layers", "1"], "--num-layers must be at least 2 for a Switch layer in block 1, "
                                 "got 1: --switch-every 1 has one in every block"),
    (["train", "--task", "span", "--encoder-layers", "1"], "--num-encoder-layers must be at least"),
    (["train", "--jitter", "1"], "jitter must be finite, at least 0 and below 1, got 1.0"),
    (["train", "--seed", "-1"], "seed must be at least 0, got -1"),
    (["sample", "x"], "the run must hold a checkpoint.npz, got 'x': found neither runs/x nor x"),
    (["sample", ".."], "the run must hold a checkpoint.npz, got '..': .. has none"),
    (["dance"], "invalid choice: 'dance'"),
])
def test_mistakes_get_one_line_and_status_2(tmp_path, words, message):
    _, err = call(*words, status=2)
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("no_pictures")
def test_sample_refuses_what_it_cannot_do(tmp_path, text):
    call("train", *TINY, "--steps", "2", "--text", text, "--name", "a")
    for words, message in ((["--prompt", ""], "prompt must hold at least one"),
                           (["--temperature", "-1"], "temperature must be finite, at least 0"),
                           (["--top-k", "0"], "top_k must be at least 1"),
                           (["--length", "-1"], "length must be at least 0")):
        _, err = call("sample", "a", *words, status=2)
        assert message in err and "Traceback" not in err
    (tmp_path / "runs/a/checkpoint.npz").write_bytes(b"broken")
    _, err = call("sample", "a", status=2)
    assert "checkpoint must be" in err
    _, err = call("train", "--name", "a", "--resume", status=2)
    assert "checkpoint must be" in err


@pytest.mark.usefixtures("no_pictures")
def test_an_older_run_is_not_overwritten(tmp_path, text):
    call("train", *TINY, "--steps", "2", "--text", text, "--name", "a")
    _, err = call("train", *TINY, "--steps", "2", "--text", text, "--name", "a", status=2)
    assert "--name must be new, got 'a'" in err
    (tmp_path / "runs/notes").mkdir()
    for name in ("config.json", "checkpoint.npz.new"):      # left by a run that was never saved
        (tmp_path / "runs/notes" / name).touch()
    words = ["train", *TINY, "--steps", "2", "--text", text, "--name", "notes"]
    (tmp_path / "runs/notes/sample.txt").write_text("mine")
    assert "'notes', a folder that holds 'sample.txt'" in call(*words, status=2)[1]
    (tmp_path / "runs/notes/sample.txt").unlink()
    call(*words)
    out, _ = call("train", *TINY, "--steps", "2", "--text", text)
    assert "runs/run-1/" in out
    out, _ = call("train", "--resume", "--name", "a")
    assert "all 2 steps were done before" in out and len(rows(tmp_path, "a")) == 2


@pytest.mark.usefixtures("no_pictures")
def test_a_run_with_a_broken_file_is_refused_by_the_name_of_the_file(tmp_path, text):
    call("train", *TINY, "--steps", "2", "--text", text, "--name", "a")
    folder = tmp_path / "runs/a"
    for name, broken, message in (
            ("config.json", "{}", "config.json must hold 'training' as the run wrote it"),
            ("config.json", '{"training": 3}', "config.json must hold 'training' as the run wrote"),
            ("config.json", '{"training": {}}', "config.json must hold 'text' as the run wrote it"),
            ("config.json", "[]", "config.json must hold 'training' as the run wrote it"),
            ("metrics.csv", (folder / "metrics.csv").read_text()[:-90], "metrics.csv must hold the "
             "steps 1 to 2 of this run, got something else in runs/a/metrics.csv")):
        whole = (folder / name).read_text()
        (folder / name).write_text(broken)
        assert message in call("train", "--resume", "--name", "a", status=2)[1]
        (folder / name).write_text(whole)


def test_a_checkpoint_of_transformers_says_which_library_it_takes(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer/config.json").write_text('{"model_type": "switch_transformers"}')
    (tmp_path / "peer/model.safetensors").touch()
    _, err = call("sample", "peer", "--ids", "1", status=2)
    assert "peer cannot be read: reading and writing .safetensors takes the safetensors libr" in err


def test_a_signal_sets_a_flag_and_is_what_it_was_afterwards():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), terminal.asked_to_stop() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()
        raise ZeroDivisionError
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_line_moves_on_a_terminal_and_is_written_anew_elsewhere(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "9")
    for moving, want in ((True, "\rone     \rtwo and \n\n"), (False, "one\ntwo and more\n")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda moving=moving: moving)
        line = terminal.Line(apart=0 if moving else 60)
        assert not line.due()
        line.write("one")
        line.write("two and more", stays=True)
        line.close()
        assert capsys.readouterr().out == want


def test_without_matplotlib_training_runs_on(tmp_path, text):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "switch_np", "train", *TINY, "--steps", "2",
                           "--text", text], cwd=tmp_path, text=True, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "matplotlib is not installed: no pictures are drawn" in done.stdout
    assert (tmp_path / "runs/run-1/sample.txt").exists()


def test_vectors_are_written_and_judged(tmp_path):
    out, _ = call("vectors", "--out", "cases", "--cases", "switch_drops", "padding")
    assert "2 cases" in out and "in cases" in out
    case = "cases/switch_drops.npz"
    with np.load(case) as arrays:
        right = {name[4:]: arrays[name] for name in arrays.files if name.startswith("ref.")
                 and name[4:] not in ("probs", "logits", "gates")}
    np.savez("right.npz", **right)
    assert call("verify", "right.npz", case)[0].startswith("pass")
    np.savez("wrong.npz", **{**right, "d_w_in": 2 * right["d_w_in"]})
    out, _ = call("verify", "wrong.npz", case, status=1)
    assert out.startswith("fail") and "d_w_in" in out
    for words, message in ((["nowhere.npz", case], "nowhere.npz"),
                           (["right.npz", "right.npz"], "right.npz must be a case of `vectors`"),
                           (["text.txt", case], "text.txt must end in .npz or .safetensors")):
        assert message in call("verify", *words, status=2)[1]
    assert "names must be among" in call("vectors", "--out", "x", "--cases", "none", status=2)[1]


def test_the_process_begins_anew_once_with_the_environment_it_wants(monkeypatch):
    started = []
    monkeypatch.setattr(os, "execv", lambda *words: started.append(words))
    for name in environment.missing({}):
        monkeypatch.setenv(name, "")                            # so that it is put back at the end
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")                  # what is said is left as it is
    begin_anew()
    begin_anew()
    assert started == [(sys.executable, [sys.executable, *sys.orig_argv[1:]])]
    assert os.environ["MALLOC_TRIM_THRESHOLD_"] == "1073741824"
    assert os.environ["OMP_NUM_THREADS"] == "2" and "OPENBLAS_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("words", [[], ["train"], ["sample"], ["table"], ["vectors"],
                                   ["verify"]])
def test_help_names_every_option_with_its_default(tmp_path, words):
    out = " ".join(call(*words, "--help")[0].split())
    assert "usage: python -m switch_np" in out
    if words == ["train"]:
        assert "(default: 0.01)" in out and "--balance-coef" in out and "(default: 0)" in out
    if words not in ([], ["verify"]):
        assert "(default: " in out or words == ["vectors"]
        assert not re.search(r"default: (None|False|\[\])|\(default: [^)]*\) \(default", out)
