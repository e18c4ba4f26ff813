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


def check(path):
    """Compare ours with a recorded model."""
    compare(*read(path))


def compare(config, params, batch, want, tolerance=1e-10):
    """Compare all that one model computes with arrays under the record's names; return ours."""
    logits, switched, _ = model.forward(params, batch.inputs, config, padding=batch.padding,
                                        source=batch.source, source_padding=batch.source_padding)
    loss, grads = model.loss_and_grads(params, batch, config)
    got = {"logits": logits, "objective": loss.total, "ce_loss": loss.cross_entropy,
           "encoder_last_hidden_state": model.encode(params, batch.source, config,
                                                     batch.source_padding)}
    got |= {f"grad:{name}": array for name, array in hugging_face.state_dict(grads, config).items()}
    for name, mine in (("aux", loss.balance), ("z", loss.z)):
        both = sum(want[f"{stack}_{name}_loss"] for stack in ("encoder", "decoder"))
        close(f"{name} losses", np.asarray(sum(mine)), both, tolerance)
    for name, array in got.items():
        if name != "ce_loss" or name in want:                     # transformers does not return it
            close(name, array, want[name], tolerance)
    assert {name for name in want if name.startswith("grad:")} <= set(got)
    check_routers(switched, want, config, tolerance)
    return switched


def check_routers(switched, want, config, tolerance):
    """Compare logits and kept choices of every router, where they are recorded."""
    for name, out in zip(config.switch_names, switched):
        stack, layer = name.split(".")
        key = f"router:{stack}.block.{layer}.layer.{2 if stack == 'decoder' else 1}.mlp.router:"
        if f"{key}logits" in want:
            logits, chosen = want[f"{key}logits"], want[f"{key}dispatch_onehot"]
            close(f"{name} router logits", out.logits.reshape(logits.shape), logits, tolerance)
            kept = np.zeros(out.probs.shape, int)
            kept[np.arange(len(kept)), out.plan.expert[:, 0]] = out.plan.kept[:, 0]
            assert (kept.reshape(chosen.shape) == chosen).all(), f"{name} kept"


def close(name, got, want, tolerance):
    assert np.shape(got) == np.shape(want), f"{name}: shape {np.shape(got)}, want {np.shape(want)}"
    worst = np.abs(got - want).max(initial=0)
    assert worst <= tolerance * np.abs(want).max(initial=0), f"{name}: off by {worst:.2g}"
