"""`sample`: a run or a checkpoint of transformers writes, or says what it lacks."""

import unicodedata

import numpy as np
import pytest

from switch_np import model
from switch_np.exchange import hugging_face, pretrained_folder


def test_a_seed_gives_the_same_text_again(runs, call):
    words = ["sample", "a", "--prompt", "pack my", "--length", "20"]
    first, again, other = (call(*words, "--seed", seed)[0] for seed in "001")
    assert first == again != other and first.startswith("pack my")


def test_blanks_are_filled_in(runs, call):
    filled, _ = call("sample", "spans", "--prompt", "pack ___ box ___ five", "--length", "30")
    assert filled.startswith("pack ") and " box " in filled
    assert ("prompt must hold 1 to 32 blanks, ___, for the model to fill in, got 0"
            in call("sample", "spans", "--prompt", "no blank", status=2)[1])


@pytest.mark.usefixtures("no_pictures")
def test_what_a_model_writes_cannot_steer_the_terminal(tmp_path, call, tiny):
    out, _ = call(*tiny, "--steps", "1")                    # writes bytes at random
    sampled, _ = call("sample", "run-1", "--temperature", "9")
    for written in (out, sampled, (tmp_path / "runs/run-1/sample.txt").read_text()):
        assert "\\x" in written
        assert not [c for c in written if c != "\n" and unicodedata.category(c) == "Cc"]


@pytest.mark.parametrize("words, message", [
    (["a", "--prompt", ""], "prompt must hold at least one"),
    (["a", "--temperature", "-1"], "temperature must be finite, at least 0"),
    (["a", "--top-k", "0"], "top_k must be at least 1"),
    (["a", "--length", "-1"], "length must be at least 0"),
    (["a", "--seed", "-1"], "--seed must be at least 0, got -1"),
    (["a", "--ids", "1"], "--ids must go with a checkpoint of transformers, got the run 'a'"),
    (["x"], "the run must hold a checkpoint.npz, got 'x': found neither runs/x nor x"),
    ([".."], "the run must hold a checkpoint.npz, got '..': runs/.. has none")])
def test_what_cannot_be_is_refused(runs, call, words, message):
    assert message in call("sample", *words, status=2)[1]


def test_a_broken_checkpoint_is_refused(runs, call):
    (runs / "a/checkpoint.npz").write_bytes(b"broken")
    assert "runs/a/checkpoint.npz must be an npz file" in call("sample", "a", status=2)[1]


def test_a_checkpoint_of_transformers_writes(tmp_path, call):
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
    assert "must be a safetensors file" in call("sample", "peer", "--ids", "1",
                                                         status=2)[1]
