"""Vectors: written, read back, judged; a C++ program judges with them."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from switch_np import __main__ as command_line
from switch_np.operations.precision import round_to
from switch_np.oracle import vectors
from switch_np.oracle.truth import rounding
from switch_np.operations import safetensors
from switch_np.oracle.vectors.cases import CASES


@pytest.fixture(scope="module", autouse=True)
def few_samples():
    """Sigma from 2 samples, not 12: these tests are of files, and only need one sigma each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounding, "SAMPLES", 2)
        yield


FEW = [name for name in CASES if name in (
    "switch_roomy", "top2_drops", "one_token", "deepseek_v3", "exact_top2_drops")]


@pytest.fixture(scope="module")
def folder(few_samples, tmp_path_factory):
    where = tmp_path_factory.mktemp("vectors")
    vectors.write(where, FEW)
    return where


@pytest.fixture(scope="module")
def whole_set(few_samples, tmp_path_factory):
    where = tmp_path_factory.mktemp("whole_set")
    vectors.write(where)
    return where


@pytest.mark.parametrize("fixture, names", [
    ("folder", FEW), pytest.param("whole_set", list(CASES), marks=pytest.mark.thorough)])
def test_the_set_is_small_and_says_what_it_hunts(fixture, names, request):
    folder = request.getfixturevalue(fixture)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5 * 2 ** 20
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["cases"]] == names
    assert all(len(entry["hunts"]) > 10 and entry["certificate"].startswith("certified: ")
               for entry in manifest["cases"])
    assert manifest["limit"] == 16.0


@pytest.mark.parametrize("name, fixture", [
    *((name, "folder") for name in FEW),
    *(pytest.param(name, "whole_set", marks=pytest.mark.thorough) for name in CASES)])
def test_a_case_comes_back_as_it_went(name, fixture, request):
    folder = request.getfixturevalue(fixture)
    arrays, about = vectors.read(folder / f"{name}.safetensors")
    again, told = vectors.read(folder / f"{name}.npz")
    assert told == about and set(again) == set(arrays)
    for key, value in arrays.items():
        assert value.dtype in (np.float64, np.int64, np.uint8), key
        assert (again[key] == value).all() and again[key].shape == value.shape, key
    ref, exactly = vectors.load(folder / f"{name}.npz")
    assert exactly == CASES[name].exact
    for key, value in ref.outputs().items():
        assert (value == arrays[f"ref.{key}"]).all(), key
    for key, sigma in ref.sigma("float32").items():
        assert key == "scores" or (sigma == arrays[f"sigma.float32.{key}"]).all(), key
    for key, value in ref.problem.params.items():
        for kind in ("bfloat16", "float16", "float32"):
            assert (round_to(value, kind) == value).all(), key


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_verify_judges_files(folder, tmp_path, kind, capsys):
    case = folder / "top2_drops.npz"
    ref, _ = vectors.load(case)
    got = {**ref.outputs(), "expert": ref.plan.expert, "kept": ref.plan.kept}
    path = tmp_path / f"got.{kind}"

    def dump(values):
        if kind == "npz":
            np.savez(path, **values)
        else:
            safetensors.write(path, values, {})
        return vectors.verify(path, case)

    assert dump(got).ok
    assert dump({"y": ref.y}).ok
    report = dump({**got, "d_x": ref.terms["x"]["experts"]})
    assert report.verdict == "fail" and "comes back through the router" in report.diagnosis[0]
    with pytest.raises(ValueError, match="must hold arrays among"):
        dump({"z": ref.y})
    with pytest.raises(ValueError, match="kept and slot, got none"):
        dump({})


def header_of(entries):
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


def test_half_precision_files_are_read(folder, tmp_path):
    case = folder / "switch_roomy.safetensors"
    ref, _ = vectors.load(case)
    bits = round_to(ref.y, "bfloat16").astype(np.float32).view(np.uint32) >> np.uint32(16)
    path = tmp_path / "got.safetensors"
    entry = {"dtype": "BF16", "shape": list(ref.y.shape), "data_offsets": [0, 2 * ref.y.size]}
    path.write_bytes(header_of({"y": entry}) + bits.astype("<u2").tobytes())
    assert vectors.verify(path, case, "bfloat16").ok
    assert not vectors.verify(path, case, "float32").ok


def test_every_bit_of_an_exact_case_counts(folder, tmp_path):
    case, got = folder / "exact_top2_drops.npz", tmp_path / "got.npz"
    ref, _ = vectors.load(case)
    np.savez(got, **ref.outputs() | {"z_loss": ref.z_loss * (1 + 2.0 ** -52)})   # not exact: a log
    assert vectors.verify(got, case, "bfloat16").ok
    np.savez(got, y=ref.y * (1 + 2.0 ** -52))
    report = vectors.verify(got, case, "bfloat16")
    assert report.verdict == "fail" and "every bit counts" in str(report)


def test_the_commands_write_and_verify(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = "one_token.npz"
    assert command_line.main(["vectors", "--out", ".", "--cases", "one_token"]) == 0
    assert "1 cases" in capsys.readouterr().out
    ref, _ = vectors.load(case)
    np.savez("good.npz", y=ref.y)
    np.savez("bad.npz", y=2 * ref.y)
    assert command_line.main(["verify", "good.npz", case]) == 0
    assert command_line.main(["verify", "bad.npz", case, "--json"]) == 1
    assert '"verdict": "fail"' in capsys.readouterr().out
    for words, message in ((["verify", case, case], "one_token.npz must"),
                           (["verify", "nowhere.npz", case], "nowhere.npz"),
                           (["verify", "a.txt", case], "a.txt must end in .npz or .safetensors"),
                           (["vectors", "--out", "x", "--cases", "none"], "names must be among")):
        assert command_line.main(words) == 2
        assert message in capsys.readouterr().err


Y = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
BROKEN = {
    "empty.npz": b"", "text.npz": b"hello", "empty.safetensors": b"", "list.safetensors":
    header_of([]), "number.safetensors": header_of(3), "entry.safetensors": header_of({"y": 3}),
    "offsets.safetensors": header_of({"y": {"dtype": "F64", "shape": [1]}}),
    "negative.safetensors": header_of({"y": {**Y, "data_offsets": [-8, 0]}}) + bytes(8),
    "short.safetensors": header_of({"y": Y}) + bytes(4),
    "shape.safetensors": header_of({"y": {**Y, "shape": [2]}}) + bytes(8),
    "dtype.safetensors": header_of({"y": {**Y, "dtype": ["F64"]}}) + bytes(8)}


@pytest.mark.parametrize("name", [*BROKEN, "half.npz", "flipped.npz", "array.npz"])
def test_a_broken_file_is_no_wrong_kernel(folder, tmp_path, name, capsys):
    """One line that names the file, and status 2; 1 would mean that the numbers are wrong."""
    case, path = folder / "one_token.npz", tmp_path / name
    whole = case.read_bytes()
    with open(path, "wb") as file:
        if name == "array.npz":
            np.save(file, np.ones(3))
        at = whole.index(b"NUMPY")                                       # in an array, wherever
        file.write({"half.npz": whole[:len(whole) // 2], "array.npz": b"", "flipped.npz":
                    whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1:], **BROKEN}[name])
    for words in ((path, case), (case, path)):
        assert command_line.main(["verify", *map(str, words)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"{path} must " in said


def test_a_case_that_lacks_a_part_is_no_wrong_kernel(folder, tmp_path):
    arrays, about = vectors.read(folder / "one_token.npz")

    def load(change):
        text = np.frombuffer(json.dumps({**about, **change}).encode(), np.uint8)
        np.savez(tmp_path / "case.npz", about=text, **arrays)
        return vectors.load(tmp_path / "case.npz")

    assert load({})[0].y.shape == arrays["ref.y"].shape
    for change in ({"config": "{"}, {"config": "[]"}, {"config": '{"experts": 2}'},
                   {"training": "maybe"}, {"exact": "perhaps"}):
        with pytest.raises(ValueError, match=r"case\.npz must be a case of `vectors`, got"):
            load(change)
    del arrays["in.x"], arrays["plan.kept"]
    with pytest.raises(ValueError, match=r"case\.npz must hold in\.x, plan\.kept too, as"):
        load({})


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_case_with_another_number_is_refused(folder, tmp_path, kind):
    """The format of safetensors has no checksum."""
    path = tmp_path / f"case.{kind}"
    arrays, about = vectors.read(folder / f"one_token.{kind}")
    arrays["in.x"].flat[0] *= 2
    if kind == "npz":
        np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    else:
        safetensors.write(path, arrays, about)
    with pytest.raises(ValueError, match=r"must be a case of `vectors`.*by their SHA-256"):
        vectors.load(path)


def test_cases_written_later_join_the_manifest(folder, tmp_path):
    manifest = tmp_path / "manifest.json"

    def listed():
        return [entry["name"] for entry in json.loads(manifest.read_text())["cases"]]

    for path in (folder / "manifest.json", *folder.glob("top2_drops.*")):
        shutil.copy(path, tmp_path)
    vectors.write(tmp_path, ["one_token"])
    assert listed() == [name for name in CASES if name in ("top2_drops", "one_token")]
    (tmp_path / "top2_drops.npz").write_bytes(b"another file")
    vectors.write(tmp_path, ["one_token"])
    assert listed() == ["one_token"]
    manifest.write_text("{}")
    with pytest.raises(ValueError, match=r"manifest\.json must be a manifest of `vectors`"):
        vectors.write(tmp_path, ["one_token"])


def test_a_flag_of_numpy_is_written():
    case = CASES["one_token"]
    make = case.make
    _, about = vectors.pack(case._replace(make=lambda: {**make(), "training": np.False_}))
    assert about["training"] == "false"


@pytest.mark.thorough
@pytest.mark.crosscheck
def test_a_cpp_program_judges_its_own_loop(whole_set, tmp_path):
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    source = Path(__file__).with_name("judge.cpp")
    assert len(source.read_text().splitlines()) <= 60
    limit = json.loads((whole_set / "manifest.json").read_text())["limit"]

    gate = 'std::getenv("WITHOUT_GATE") ? 1.0f : p[e]/total'          # one program, right and wrong
    subprocess.run([compiler, "-std=c++17", "-O1", f"-DGATE={gate}", str(source), "-o",
                    str(tmp_path / "judge")], check=True)

    def run(*words, **environment):
        return subprocess.run([tmp_path / "judge", *words], capture_output=True, text=True,
                              env=os.environ | environment)

    few = run()
    assert few.returncode == 2 and "usage: judge CASE.safetensors LIMIT" in few.stdout
    assert run(whole_set / "no_such_case.safetensors", str(limit)).returncode == 2
    for case in ("switch_drops", "top2_drops", "padding", "two_groups", "empty_expert",
                 "drifted_replay", "hot_logits", "exact_top2_drops"):
        words = whole_set / f"{case}.safetensors", str(limit)
        good, bad = run(*words), run(*words, WITHOUT_GATE="1")
        assert good.returncode == 0 and good.stdout.count("ok") == 2, (case, good.stdout)
        assert bad.returncode == 1 and "is wrong" in bad.stdout, (case, bad.stdout)
