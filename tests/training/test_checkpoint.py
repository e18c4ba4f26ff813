"""Checkpoints replace older ones whole; broken ones are refused by name."""

from dataclasses import asdict

import numpy as np
import pytest
from training.small_run import CORPUS, MODEL, TRAIN

from switch_np.operations import tree
from switch_np.training import checkpoint, trainer
from switch_np.training.adafactor import Adafactor


def test_a_checkpoint_replaces_the_older_one_whole(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, {"w": np.ones(2)}, {"step": 1})

    def full_disk(file, **arrays):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.save(path, {"w": np.zeros(2)}, {"step": 2})
    arrays, state = checkpoint.load(path)
    assert state == {"step": 1} and arrays["w"].tolist() == [1, 1]


def test_broken_files_are_refused_by_name(tmp_path):
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(ValueError, match=r"missing\.npz must be a readable file, got No such"):
        checkpoint.load(tmp_path / "missing.npz")
    trainer.save(trainer.start(MODEL, TRAIN, CORPUS), path)
    whole = path.read_bytes()
    for content in (b"", b"not a zip", b"PK\x03\x04 half a zip", whole[:len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.npz must be an npz file, got"):
            trainer.load(path)
    np.savez(path, state=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match=r"npz file, got .*: state must be an array as np"):
        checkpoint.load(path)


@pytest.mark.parametrize("change, message", [
    (lambda arrays, state: state["model"].update(d_ff=17), "must have shape"),
    (lambda arrays, state: state.pop("text_rng"), "text_rng"),
    (lambda arrays, state: state["training"].update(optimizer=asdict(Adafactor())),
     "moments must have the keys"),
    (lambda arrays, state: arrays.update(moments=tree.apply(np.float64, arrays["moments"])),
     r"moments\['.*'\] must be float32 like the rest"),
    (lambda arrays, state: arrays.update(tree.apply(np.float64, arrays)), "dtype must be one of"),
    (lambda arrays, state: arrays["params"]["embedding"]["table"].fill(np.nan),
     r"params\['embedding.table'\] must be finite, got nan at \(0, 0\)"),
    (lambda arrays, state: arrays["moments"]["v"]["embedding"]["table"].fill(np.inf),
     r"moments\['v.embedding.table'\] must be finite"),
    (lambda arrays, state: arrays.update(more=np.ones(1)), "arrays must have the keys"),
    (lambda arrays, state: state["model"].update(num_layers=10 ** 9), "arrays for 1000000000 lay"),
    (lambda arrays, state: state.update(step=10 ** 9), "step must be .* below 9, got 1000000000"),
    (lambda arrays, state: state.update(seconds=float("nan")), "seconds must be finite"),
    (lambda arrays, state: state["text_rng"].update(bit_generator="MT19937"), "bit_generator")])
def test_arrays_and_state_that_do_not_fit_are_refused(tmp_path, change, message):
    path = tmp_path / "checkpoint.npz"
    trainer.save(trainer.start(MODEL, TRAIN, CORPUS), path)
    arrays, state = checkpoint.load(path)
    change(arrays, state)
    checkpoint.save(path, arrays, state)
    with pytest.raises(ValueError, match=rf"must be a checkpoint of a training run.*{message}"):
        trainer.load(path)


def test_another_numpy_must_draw_the_same_to_go_on_but_not_to_sample(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.npz"
    run = trainer.start(MODEL, TRAIN, CORPUS)
    run.noise_rng = np.random.Generator(np.random.PCG64DXSM(1))     # the default of another NumPy
    trainer.save(run, path)
    assert trainer.load(path, CORPUS).noise_rng.random() == run.noise_rng.random()
    monkeypatch.setattr(trainer, "_next", lambda rng: [0.5])
    assert trainer.load(path).step == 0
    with pytest.raises(ValueError, match=f"the random numbers of NumPy {np.__version__}"):
        trainer.load(path, CORPUS)
    arrays, state = checkpoint.load(path)
    del state["next"], state["numpy"], state["numbers_id"]          # as older runs were saved
    checkpoint.save(path, arrays, state)
    assert trainer.load(path, CORPUS).step == 0
