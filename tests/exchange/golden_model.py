"""Recorded whole models of transformers, compared with ours: outputs, losses, every gradient."""

import json
from pathlib import Path

import numpy as np

from switch_np import model
from switch_np.exchange import hugging_face
from switch_np.transformer.batch import Batch

COPIES = Path(__file__).parents[1] / "golden"


def read(path):
    """Return the config, the parameters, the batch and all that was recorded."""
    values = json.loads(path.read_text(encoding="utf-8"))
    with np.load(path.with_suffix(".npz")) as file:
        arrays = dict(file)
    coefs = {name: float(arrays[coef]) for name, coef in (
        ("router_aux_loss_coef", "coef_aux"), ("router_z_loss_coef", "coef_z")) if coef in arrays}
    config = hugging_face.config({**values["config"], **coefs})
    params = hugging_face.params(
        {name[6:]: array for name, array in arrays.items() if name.startswith("param:")}, config)
    decoder_mask = arrays.get("decoder_attention_mask")
    batch = Batch(arrays["decoder_input_ids"], arrays["labels"],
                  None if decoder_mask is None else decoder_mask == 0, arrays["input_ids"],
                  arrays["attention_mask"] == 0)
    return config, params, batch, arrays


def check(path, tolerance=1e-10):
    config, params, batch, want = read(path)
    logits, switched, _ = model.forward(params, batch.inputs, config, padding=batch.padding,
                                        source=batch.source, source_padding=batch.source_padding)
    close("logits", logits, want["logits"], tolerance)
    close("encoder output", model.encode(params, batch.source, config, batch.source_padding),
          want["encoder_last_hidden_state"], tolerance)
    check_routers(switched, want, config, tolerance)
    loss, grads = model.loss_and_grads(params, batch, config)
    close("loss", loss.total, want["objective"], tolerance)
    close("cross-entropy", loss.cross_entropy, want["ce_loss"], tolerance)
    for name, mine in (("aux", loss.balance), ("z", loss.z)):
        both = sum(want[f"{stack}_{name}_loss"] for stack in ("encoder", "decoder"))
        close(f"{name} losses", np.asarray(sum(mine)), both, tolerance)
    check_grads(hugging_face.state_dict(grads, config), want, tolerance)
    return grads


def check_routers(switched, want, config, tolerance):
    """Compare logits and kept choices of every router, where they are recorded."""
    for name, out in zip(config.switch_names, switched):
        stack, layer = name.split(".")
        key = f"router:{stack}.block.{layer}.layer.{2 if stack == 'decoder' else 1}.mlp.router:"
        if f"{key}logits" in want:
            close(f"{name} router logits", out.logits.reshape(want[f"{key}logits"].shape),
                  want[f"{key}logits"], tolerance)
            kept = np.zeros(out.probs.shape, int)
            kept[np.arange(len(kept)), out.plan.expert[:, 0]] = out.plan.kept[:, 0]
            assert (kept.reshape(want[f"{key}dispatch_onehot"].shape)
                    == want[f"{key}dispatch_onehot"]).all(), f"{name} kept"


def check_grads(grads, want, tolerance):
    recorded = {name[5:]: array for name, array in want.items() if name.startswith("grad:")}
    assert recorded and set(recorded) == set(grads)
    for name, array in recorded.items():
        close(f"gradient of {name}", grads[name], array, tolerance)


def close(name, got, want, tolerance):
    assert np.shape(got) == np.shape(want), f"{name}: shape {np.shape(got)}, want {np.shape(want)}"
    worst = np.abs(got - want).max(initial=0)
    assert worst <= tolerance * np.abs(want).max(initial=0), f"{name}: off by {worst:.2g}"
