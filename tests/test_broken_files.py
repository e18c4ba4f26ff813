"""Broken files: each is refused in one line that names it, or gives exactly what was written."""

import io
import shutil
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from training.small_run import MODEL

from switch_np import model
from switch_np.commands import run_folder
from switch_np.exchange import hugging_face, pretrained_folder
from switch_np.operations import tree
from switch_np.oracle import vectors
from switch_np.oracle.truth import rounding
from switch_np.training import tasks, trainer
from switch_np.training.train_config import TrainConfig

PEER = hugging_face.config(dict(
    vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_heads=2, num_layers=2, num_decoder_layers=2,
    num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, num_experts=2))
FILES = ("run/checkpoint.npz", "run/checkpoint.npz", "run/config.json", "run/metrics.csv",
         "one_token.npz", "one_token.safetensors", "peer/model.safetensors", "peer/config.json")
ROOM = 64 * 2 ** 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a folder with a run of two steps, a case of the vectors and a peer's model."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "text").write_bytes(b"the quick brown fox jumps over the lazy dog. " * 40)
    corpus = tasks.named("lm").load([folder / "text"])
    run = trainer.start(MODEL, TrainConfig(steps=8, batch_size=3, seq_len=12), corpus)
    metrics = run_folder.Metrics(folder / "run/metrics.csv", run)
    for _ in range(2):
        metrics.add(*trainer.advance(run, corpus))
        metrics.held_out = 0.5
    run_folder.write_config(folder / "run", run, [folder / "text"])
    metrics.write()
    trainer.save(run, folder / "run/checkpoint.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounding, "SAMPLES", 2)
        vectors.write(folder, ["one_token"])
    pretrained_folder.save(folder / "peer", model.init(np.random.default_rng(0), PEER), PEER)
    return folder


def read(path):
    """Read a file as the commands do; return everything it says, comparable by ==."""
    folder = path.parent
    if folder.name == "run":
        config = run_folder.read_config(folder)
        corpus = tasks.named(config.training.task).load(config.text)
        run = trainer.load(folder / "checkpoint.npz", corpus)
        run_folder.check_config(folder, config, run)
        said = (run.model_config, run.config, run.step, run.seconds, run.text_id, config.text,
                str(run.text_rng.bit_generator.state), str(run.noise_rng.bit_generator.state),
                run_folder.Metrics(folder / "metrics.csv", run).rows)
        return said, tree.flatten({"params": run.params, "moments": run.moments})
    if folder.name == "peer":
        found = pretrained_folder.load(folder)
        return found[1:], tree.flatten(found.params)
    ref, exact = vectors.load(path)
    arrays, about = vectors.read(path)
    return (ref.problem.config, exact, about), {**arrays, **ref.outputs()}


def same(one, two):
    """Compare to the last bit; the order in which a file lists its arrays is no matter."""
    return one[0] == two[0] and one[1].keys() == two[1].keys() and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in ((one[1][name], two[1][name]) for name in one[1]))


def cut(rng, data):
    return data[:rng.integers(len(data))]


def flipped(rng, data):
    data = bytearray(data)
    for at in rng.integers(len(data), size=rng.integers(1, 9)):
        data[at] ^= 1 << rng.integers(8)
    return bytes(data)


def overwritten(rng, data):
    at = rng.integers(len(data))
    return data[:at] + rng.bytes(rng.integers(1, 200)) + data[at:][rng.integers(200):]


def claimed(rng, data):
    """Put a size or two in the zip's own fields: of the end, a directory entry, a local header."""
    data = bytearray(data)
    marks = [n for mark in (b"PK\1\2", b"PK\3\4", b"PK\5\6") for n in range(len(data))
             if data[n:n + 4] == mark]
    for at in rng.choice(marks, 2):
        struct.pack_into("<I", data, min(at + rng.integers(6, 42), len(data) - 4),
                         rng.choice([0, 2 ** 31, 2 ** 32 - 1, rng.integers(2 ** 20)]))
    return bytes(data)


def entry_changed(rng, data):
    """Write the zip anew, checksums and all, with one array renamed, gone, bent or spoilt."""
    with np.load(io.BytesIO(data)) as stored:
        arrays = dict(stored)
    name = str(rng.choice(sorted(arrays)))
    array, how = arrays.pop(name), int(rng.integers(9))
    if how == 0:
        arrays[name + "x"] = array
    elif how == 1:
        arrays[name] = array[..., None]
    elif how == 2:
        arrays[name] = array.astype(rng.choice(["f2", "c16", "i8", "O", "S3"])
                                    if array.dtype.kind != "U" else "U9")
    elif how == 3 and array.dtype.kind == "f":
        arrays[name] = array.copy()
        arrays[name].flat[-1:] = rng.choice([np.nan, np.inf])
    elif how == 4:
        arrays[str(rng.choice(sorted(arrays)))] = array
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    if how in (5, 6, 7, 8):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2 ** 28},), }}".encode()
        spoilt = {5: b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header,
                  6: b"\x93NUMPY\2\0" + struct.pack("<I", 2 ** 32 - 1) + header,
                  7: b"\x93NUMPY\1\0" + struct.pack("<H", 9) + b"{'descr':",
                  8: bytes(200 * 2 ** 20) if rng.random() < 0.1 else b""}[how]
        with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name + ".npy", spoilt)
    return buffer.getvalue()


def state_changed(rng, data):
    """Write a checkpoint anew with one number of its state or config replaced."""
    with np.load(io.BytesIO(data)) as stored:
        arrays = dict(stored)
    key = "state" if "state" in arrays else "about"
    text = arrays[key].item() if key == "state" else arrays[key].tobytes().decode()
    changed = text_changed(rng, text.encode()).decode()
    arrays[key] = np.array(changed) if key == "state" else np.frombuffer(changed.encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def text_changed(rng, data):
    """Replace a word or number of a text by another value, or double or drop it."""
    words = [n for n in range(1, len(data)) if data[n - 1:n] in b' ,:[{"\n' != data[n:n + 1]]
    at = int(rng.choice(words))
    end = next((n for n in range(at, len(data)) if data[n:n + 1] in b',:]}"\n'), len(data))
    other = (b"1000000000", b"NaN", b"-1", b"1e999", b"null", b"[" * 5000, b"", b'"x"', b"{}",
             data[at:end] * 2, b"9" * 5000, b"true")[rng.integers(12)]
    return data[:at] + other + data[end:]


def header_changed(rng, data):
    """Change the header of a safetensors file, or claim another length for it."""
    size = struct.unpack_from("<Q", data)[0]
    if rng.random() < 0.2:
        return struct.pack("<Q", int(rng.integers(2 ** 63)) >> int(rng.integers(63))) + data[8:]
    header = [text_changed, flipped, overwritten][rng.integers(3)](rng, data[8:8 + size])
    return struct.pack("<Q", len(header)) + header + data[8 + size:]


def weights_changed(rng, data):
    """Put NaN or infinity where a number of a safetensors file stands."""
    size = 8 + struct.unpack_from("<Q", data)[0]
    at = size + 8 * int(rng.integers((len(data) - size) // 8))
    return data[:at] + struct.pack("<d", rng.choice([np.nan, np.inf])) + data[at + 8:]


def ways(name):
    if name.endswith("npz"):
        return cut, flipped, overwritten, claimed, entry_changed, entry_changed, state_changed
    if name.startswith("peer/model"):       # whose numbers no checksum guards
        return cut, header_changed, header_changed, weights_changed
    if name.startswith("peer"):             # as above: here another valid value is another model
        return cut, lambda rng, data: overwritten(rng, data)[:len(data) // 2]
    if name.endswith("safetensors"):
        return cut, flipped, overwritten, header_changed, weights_changed
    return cut, flipped, overwritten, text_changed


def attack(whole, folder, seed):
    """Break one file and read it; return what became of it."""
    rng = np.random.default_rng(seed)
    name = FILES[seed % len(FILES)]
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    path, want = folder / name, read(whole / name)
    path.write_bytes(ways(name)[rng.integers(len(ways(name)))](rng, path.read_bytes()))
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = read(path)
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 5000, (seed, error)
        assert path.name in str(error) or str(path.parent) in str(error) or (
            name == "run/config.json" and "text" in str(error)), (seed, error)
        found = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= 3 * path.stat().st_size + ROOM, (seed, name, peak)
    if found is not None:
        assert same(found, want), (seed, name)
    return "refused" if found is None else "read, and the same"


def test_broken_files_are_refused_or_read_right(whole, tmp_path):
    assert "refused" in {attack(whole, tmp_path, seed) for seed in range(24)}


@pytest.mark.thorough
def test_500_broken_files_are_refused_or_read_right(whole, tmp_path):
    for seed in range(100, 600):
        attack(whole, tmp_path, seed)
