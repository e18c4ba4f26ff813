"""`train` as a person uses it: train, stop, resume, fine-tune."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import switch_np
from commands.same_run import assert_same, rows
from switch_np.commands import progress
from switch_np.operations.rounded import Bfloat16
from switch_np.training import tasks, trainer
from switch_np.training.train_config import TrainConfig
from switch_np.transformer import embedding
from switch_np.transformer.model_config import ModelConfig


def total_load(row, layer, experts=3):
    return sum(float(row[f"load_{layer}_{e}"]) for e in range(experts))


def test_train_leaves_all_that_it_promises(tmp_path, call, tiny):
    out, _ = call(*tiny, "--steps", "12")
    folder = tmp_path / "runs" / "run-1"
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "config.json", "metrics.csv", "checkpoint.npz", "loss.png", "expert_load.png",
        "routing.png", "sample.txt"}
    assert "bits per byte, a byte bigram" in out and "runs/run-1/ holds" in out
    assert json.loads((folder / "config.json").read_text())["model"]["switch"]["num_experts"] == 3
    table = rows("run-1")
    assert [int(row["step"]) for row in table] == list(range(1, 13))
    for row in table:
        assert abs(total_load(row, "1") - 1) < 1e-9
        assert np.isfinite(float(row["grad_norm"])) and 0 <= float(row["dropped"]) < 1
    assert table[-1]["held_out_bits_per_byte"]
    for name in ("loss", "expert_load", "routing"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("no_pictures")
def test_two_runs_agree_and_a_stopped_one_goes_on_as_if_it_had_not_been(call, tiny, monkeypatch):
    advance, words = trainer.advance, [*tiny, "--steps", "12"]
    call(*words, "--name", "whole")

    def interrupted(state, corpus):
        if state.step == 4:
            os.kill(os.getpid(), signal.SIGINT)              # as Ctrl-C during the fifth step
        return advance(state, corpus)

    monkeypatch.setattr(trainer, "advance", interrupted)
    out, _ = call(*words, "--name", "stopped")
    assert "stopped after step 5" in out and "--resume --name stopped" in out
    assert rows("stopped") == rows("whole")[:5]
    call("train", "--resume", "--name", "stopped")
    assert_same("stopped", "whole")


def test_ctrl_c_ends_a_process_well(tiny):
    process = subprocess.Popen([sys.executable, "-m", "switch_np", *tiny, "--steps", "100000"],
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not process.stdout.readline().startswith("step 1/"):
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and not err
    assert f"stopped after step {len(rows('run-1'))}" in out


def test_a_run_does_without_matplotlib(tmp_path, call, tiny, monkeypatch):
    monkeypatch.delattr(switch_np, "plots", raising=False)
    monkeypatch.setitem(sys.modules, "switch_np.plots", None)
    out, _ = call(*tiny, "--steps", "1")
    assert "matplotlib is not installed: no pictures are drawn" in out
    assert (tmp_path / "runs/run-1/sample.txt").exists()


@pytest.mark.usefixtures("no_pictures")
def test_top_2_and_float64_and_adafactor_train(call, tiny):
    for name, words in (("moe", ["--top-k", "2"]), ("rows", ["--optimizer", "adafactor"]),
                        ("double", ["--dtype", "float64", "--capacity-factor", "none"])):
        call(*tiny, *words, "--steps", "3", "--name", name)
    with np.load("runs/double/checkpoint.npz") as file:
        assert file["params.embedding.table"].dtype == np.float64
    with np.load("runs/rows/checkpoint.npz") as file:
        assert file["moments.embedding.table.row"].shape == (256,)
    assert "all 3 steps are already done" in call("train", "--resume", "--name", "rows")[0]


@pytest.mark.usefixtures("no_pictures")
def test_switch_layers_in_attention_train_show_their_loads_and_write(call, tiny):
    assert "Switch layers 1.q, 1.kv, 1 with 3 experts" in call(
        *tiny, "--switch-attention", "--steps", "2", "--name", "a")[0]
    for row in rows("a"):
        assert [round(total_load(row, layer), 9) for layer in ("1.q", "1.kv", "1")] == [1, 1, 1]
        assert {"balance_1.kv", "dropped_1.q", "z_1"} < set(row)
    with np.load("runs/a/checkpoint.npz") as file:
        assert file["params.decoder.1.attention.switch_kv.w_in"].shape == (3, 8, 16)
    assert call("sample", "a", "--length", "3")[0]


def test_a_dense_model_has_no_picture_of_experts(tmp_path, call, tiny):
    call(*tiny[:-2], "--dense", "--steps", "3", "--name", "dense")
    assert (tmp_path / "runs/dense/loss.png").exists()
    assert not (tmp_path / "runs/dense/expert_load.png").exists()


def test_a_run_in_bfloat16_writes_and_is_drawn_in_bfloat16(call, tiny, monkeypatch):
    seen, look_up = set(), embedding.forward
    monkeypatch.setattr(embedding, "forward", lambda table, ids: seen.add(
        type(table)) or look_up(table, ids))
    call(*tiny, "--steps", "2", "--dtype", "bfloat16")
    call("sample", "run-1", "--length", "3")
    assert seen == {Bfloat16}


def test_spans_are_trained_on_and_filled_in(tmp_path, call, tiny, text):
    out, _ = call(*tiny, "--task", "span", "--seq-len", "24", "--steps", "6", "--gated",
                  "--activation", "gelu_tanh", "--tie-embeddings", "none", "--optimizer",
                  "adafactor")
    assert "2 + 2 blocks, Switch layers encoder.1, decoder.1 with 3 experts" in out
    assert "negative log perplexity (nats per token) -" in out and "a unigram -" in out
    sample = (tmp_path / "runs/run-1/sample.txt").read_text()
    before, after, original = sample.split("\n\n")[0].split("\n")
    assert before.startswith("before: ") and "[___]" in before and after.startswith("after:  ")
    plain = original.removeprefix("text:   ").replace("[", "").replace("]", "")
    with open(text) as file:
        assert plain in file.read()
    table = rows("run-1")
    assert float(table[-1]["neg_log_perplexity"]) == -float(table[-1]["cross_entropy"])
    assert float(table[-1]["held_out_neg_log_perplexity"]) < 0
    assert abs(total_load(table[0], "encoder.1") - 1) < 1e-9


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("every, kind, columns", [
    (2, "pooled", ["balance_encoder", "z_encoder", "balance_decoder", "z_decoder"]),
    (1, "transformers", ["balance_decoder", "z_decoder"])])
def test_pooled_losses_have_a_column_per_stack(tmp_path, call, text, every, kind, columns):
    config = ModelConfig(vocab_size=290, d_model=8, d_ff=8, num_heads=1, d_kv=8, num_layers=4,
                         num_encoder_layers=2, encoder_switch_every=every, router_losses=kind,
                         z_coef=1e-3)
    corpus = tasks.named("span").load([text])
    base = trainer.start(config, TrainConfig(task="span", seq_len=16), corpus)
    trainer.save(base, tmp_path / "runs/base/checkpoint.npz")
    words = ["--steps", "2", "--seq-len", "16", "--batch-size", "2"]
    call("train", "--task", "span", "--from", "base", "--text", text, "--name", "tuned", *words)
    table = rows("tuned")
    assert [name for name in table[0] if name.startswith(("balance_", "z_"))] == columns
    for row in table:
        assert None not in row and not {None, ""} & set(row.values())
        losses = sum(float(row[name]) * (config.balance_coef if name.startswith("b") else
                                         config.z_coef) for name in columns)
        assert abs(float(row["loss"]) - float(row["cross_entropy"]) - losses) < 1e-5
        for name in config.switch_names:
            assert 0 <= float(row[f"dropped_{name}"]) <= 1
            assert abs(total_load(row, name, 16) - 1) < 1e-9


def test_a_run_is_fine_tuned_on_pairs_with_dropouts_of_its_own(runs, call, tiny, text, monkeypatch):
    monkeypatch.setattr(progress, "draw", lambda *_: None)
    with open("pairs.tsv", "w") as file:
        file.writelines(f"{n}+1\t{n + 1}\n" for n in range(60))
    pairs = ["train", "--task", "pairs", "--text", "pairs.tsv", "--seq-len", "16", "--steps", "2"]
    out, _ = call(*pairs, "--from", "spans", "--name", "tuned", "--expert-dropout", "0.4")
    assert "54 pairs, 6 held out" in out and "target: " in out
    config = json.loads((runs / "tuned/config.json").read_text())
    assert config["model"]["dropout"] == 0.1                      # as it was
    assert config["model"]["switch"]["expert_dropout"] == 0.4     # as it was asked
    assert call("sample", "tuned", "--prompt", "1+1", "--temperature", "0")[0].endswith("\n")
    call("train", "--resume", "--name", "tuned")
    call(*tiny, "--vocab-size", "290", "--steps", "1", "--name", "alone")
    call(*pairs, "--from", "alone", "--name", "decoder")
    for words, message in (
            (["--from", "spans", "--d-ff", "16"], "--from keeps the run's own model, got "
                                                  "--d-ff 16"),
            (["--from", "spans", "--text", text], "num_encoder_layers must be 0 for the task 'lm'"),
            (["--from", "nowhere"], "the run must hold a checkpoint.npz, got 'nowhere'"),
            (["--task", "span", "--from", "alone", "--text", text],
             "--from must name a run whose model suits --task span, got 'alone', of --task lm: "
             "num_encoder_layers must be at least 1 for the task 'span', got 0"),
            (["--task", "pairs", "--from", "spans"], "text must be given for the task 'pairs'")):
        assert message in call("train", *words, status=2)[1]
