"""Options that cannot be: each is refused in one line, before anything is written."""

import pytest

from switch_np.commands.train_options import configs


@pytest.mark.parametrize("words, message", [
    (["--task", "span", "--seq-len", "1"], "seq_len must be at least 2, got 1"),
    (["--task", "span", "--corruption", "1"], "corruption must be finite, at least 0 and"),
    (["--task", "span", "--mean-span", "0"], "mean_span must be finite, at least 1"),
    (["--task", "pairs"], "text must be given for the task 'pairs'"),
    (["--encoder-layers", "1"], "num_encoder_layers must be 0 for the task 'lm', got 1"),
    (["--top-k", "17"], "top_k must be at most num_experts, 16, got 17"),
    (["--capacity-factor", "-1"],
     "capacity_factor must be finite, at least 0 and below 1e+200, got -1.0"),
    (["--capacity-factor", "wide"], "argument --capacity-factor: invalid"),
    (["--num-heads", "3"], "--num-heads must divide --d-model"),
    (["--steps", "0"], "steps must be at least 1, got 0"),
    (["--batch-size", "0"], "batch_size must be at least 1, got 0"),
    (["--text", "nowhere.txt"], "text must be a readable file, got nowhere.txt"),
    (["--resume"], "there must be a run to resume, got none in runs/"),
    (["--resume", "--name", "x"], "the run must hold a checkpoint.npz, got 'x'"),
    (["--resume", "--steps", "7"], "--resume keeps the run's own options, got --steps 7"),
    (["--name", ".."], "--name must be a plain folder name, got '..'"),
    (["--name", "."], "--name must be a plain folder name, got '.'"),
    (["--name", "a/b"], "--name must be a plain folder name, got 'a/b'"),
    (["--corruption", "0.3"], "--corruption must go with --task span, got 0.3 without"),
    (["--mean-span", "2"], "--mean-span must go with --task span, got 2.0 without"),
    (["--encoder-switch-every", "1"],
     "--encoder-switch-every must go with --task span or pairs, got 1 without"),
    (["--dense", "--num-experts", "4"], "--num-experts must go with Switch layers, got 4"),
    (["--dense", "--switch-attention"], "--switch-attention must go with Switch layers, got True"),
    (["--dense", "--expert-dropout", "0.1"], "--expert-dropout must go with Switch layer"),
    (["--switch-every", "0", "--capacity-factor", "2"], "--capacity-factor must go with"),
    (["--dense", "--switch-every", "1"], "--switch-every must go with Switch layers"),
    (["--layers", "1"], "--num-layers must be at least 2 for a Switch layer in block 1, got 1: "
                        "--switch-every 1 has one in every block"),
    (["--task", "span", "--encoder-layers", "1"], "--num-encoder-layers must be at least"),
    (["--dense", "--bias-rate", "0.1"], "--bias-rate must go with Switch layers, got 0.1"),
    (["--bias-rate", "-1"], "bias_rate must be finite, at least 0, got -1.0"),
    (["--jitter", "1"], "jitter must be finite, at least 0 and below 1, got 1.0"),
    (["--seed", "-1"], "seed must be at least 0, got -1"),
])
def test_mistakes_get_one_line_and_status_2(tmp_path, call, words, message):
    assert message in call("train", *words, status=2)[1]
    assert not (tmp_path / "runs").exists()


def test_a_rate_of_the_bias_gives_the_layers_one():
    model, train = configs({"bias_rate": 0.25, "num_experts": 4})
    assert model.switch.conventions.select_bias and train.bias_rate == 0.25
    assert not configs({"bias_rate": 0.0})[0].switch.conventions.select_bias
