"""Vectors: written, read back, judged; the exact set is exact; a C++ program judges with them."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from switch_np import __main__ as command_line
from switch_np import oracle
from switch_np.operations.precision import round_to
from switch_np.oracle import vectors
from switch_np.oracle.truth import rounding
from switch_np.oracle.vectors import exact, safetensors
from switch_np.oracle.vectors.cases import CASES

EXACT = [name for name, case in CASES.items() if case.exact]


@pytest.fixture(scope="module", autouse=True)
def few_samples():
    """Sigma from 4 samples, not 12: these tests are of files, and only need one sigma each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounding, "SAMPLES", 4)
        yield


@pytest.fixture(scope="module")
def folder(few_samples, tmp_path_factory):
    where = tmp_path_factory.mktemp("vectors")
    vectors.write(where)
    return where


def test_the_set_is_small_and_says_what_it_hunts(folder):
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5 * 2 ** 20
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["cases"]] == list(CASES)
    assert all(len(entry["hunts"]) > 10 for entry in manifest["cases"])
    assert all(entry["certificate"].startswith("certified: ") for entry in manifest["cases"])
    assert manifest["limit"] == 16.0


@pytest.mark.parametrize("name", CASES)
def test_a_case_comes_back_as_it_went(folder, name):
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
    assert oracle.certify(ref).ok


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


def test_half_precision_files_are_read(folder, tmp_path):
    ref, _ = vectors.load(folder / "switch_roomy.safetensors")
    bits = round_to(ref.y, "bfloat16").astype(np.float32).view(np.uint32) >> np.uint32(16)
    header = json.dumps({"y": {"dtype": "BF16", "shape": list(ref.y.shape),
                               "data_offsets": [0, 2 * ref.y.size]}}).encode()
    path = tmp_path / "got.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header
                     + bits.astype("<u2").tobytes())
    case = folder / "switch_roomy.safetensors"
    assert vectors.verify(path, case, "bfloat16").ok
    assert not vectors.verify(path, case, "float32").ok


def test_transposed_arrays_are_written_row_by_row(tmp_path):
    array = np.arange(6.0).reshape(2, 3).T
    safetensors.write(tmp_path / "a.safetensors", {"a": array, "flag": array > 2}, {"b": "c"})
    arrays, about = safetensors.read(tmp_path / "a.safetensors")
    assert (arrays["a"] == array).all() and about == {"b": "c"}
    assert arrays["flag"].dtype == np.uint8
    with pytest.raises(TypeError, match="float64, int64 or uint8"):
        safetensors.write(tmp_path / "a.safetensors", {"a": array.astype(np.float32)}, {})
    (tmp_path / "cut.safetensors").write_bytes(b"123")
    with pytest.raises(ValueError, match="must be a safetensors file"):
        safetensors.read(tmp_path / "cut.safetensors")


def added(left, right, kind, rng):
    """Return a matrix product, each product and each sum rounded, in a random order."""
    total = np.zeros((left.shape[0], right.shape[1]))
    for n in rng.permutation(left.shape[1]):
        total = round_to(total + round_to(left[:, n, None] * right[None, n], kind), kind)
    return total


def run_exactly(asked, plan, kind, rng):
    """Return a layer's numbers, everything rounded at once, tokens and experts in random order."""
    x, d_y, params, e = asked["x"], asked["d_y"], asked["params"], asked["config"].num_experts
    real = ~asked.get("padding", np.zeros(len(x), bool))
    logits = added(x, params["w_router"], kind, rng)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs = round_to(odds / odds.sum(axis=1, keepdims=True), kind)
    y, d_x, d_probs = np.zeros_like(x), np.zeros_like(x), np.zeros_like(probs)
    grads = {name: np.zeros_like(value) for name, value in params.items()}
    for i in rng.permutation(e):
        token, choice = np.nonzero(plan.kept & (plan.expert == i))
        order = rng.permutation(len(token))
        token, choice = token[order], choice[order]
        gate, rows = probs[token, plan.expert[token, choice]][:, None], x[token]
        before = added(rows, params["w_in"][i], kind, rng)
        hidden = np.maximum(before, 0)
        out = added(hidden, params["w_out"][i], kind, rng)
        y[token] = round_to(y[token] + round_to(gate * out, kind), kind)
        d_out = round_to(gate * d_y[token], kind)
        grads["w_out"][i] = added(hidden.T, d_out, kind, rng)
        d_before = added(d_out, params["w_out"][i].T, kind, rng) * (before > 0)
        grads["w_in"][i] = added(rows.T, d_before, kind, rng)
        d_x[token] = round_to(d_x[token] + added(d_before, params["w_in"][i].T, kind, rng), kind)
        for t, row in zip(token, out):
            d_probs[t, i] += added(d_y[None, t], row[:, None], kind, rng)[0, 0]
    share = np.bincount(plan.expert[real, 0], minlength=e) / real.sum()
    d_probs[real] += round_to(asked["balance_coef"] * e * share / real.sum(), kind)
    inner = added((d_probs * probs)[:, None].reshape(-1, e), np.ones((e, 1)), kind, rng)
    d_logits = round_to(probs * round_to(d_probs - inner, kind), kind)
    grads["w_router"] = added(x.T, d_logits, kind, rng)
    d_x = round_to(d_x + added(d_logits, params["w_router"].T, kind, rng), kind)
    balance = e * (share * probs[real].sum(axis=0) / real.sum()).sum()
    return {"y": y, "balance_loss": np.asarray(balance), "d_x": d_x,
            **{f"d_{name}": grad for name, grad in grads.items()}}


@pytest.mark.parametrize("name", EXACT)
def test_every_bit_of_the_exact_set_is_known(folder, tmp_path, name):
    asked = CASES[name].make()
    ref, _ = vectors.load(folder / f"{name}.npz")
    assert any(value.any() for key, value in ref.grads.items())
    rng = np.random.default_rng(0)
    for kind in ("float64", "float32", "bfloat16", "float16"):
        got = run_exactly(asked, ref.plan, kind, rng)
        for key, value in got.items():
            assert (value == ref.outputs()[key]).all(), (kind, key)
    np.savez(tmp_path / "got.npz", **got)
    assert vectors.verify(tmp_path / "got.npz", folder / f"{name}.npz").ok
    key = "y" if ref.y.any() else "d_x"
    wrong = ref.outputs()[key] * (1 + 2.0 ** -52)
    np.savez(tmp_path / "got.npz", **{key: wrong})
    report = vectors.verify(tmp_path / "got.npz", folder / f"{name}.npz", "bfloat16")
    assert report.verdict == "fail" and "every bit counts" in str(report)


def test_sums_that_need_more_bits_are_not_exact():
    watching = exact.watching()
    np.full((1, 300), 1.0).view(watching) @ np.full((300, 1), 1.0).view(watching)
    assert watching.most == 300 > exact.BITS
    with pytest.raises(ValueError, match="seed must give short sums"):
        exact.problem(top_k=1, capacity=0, seed=0)


def test_the_commands_write_and_verify(folder, tmp_path, capsys):
    assert command_line.main(["vectors", "--out", str(tmp_path), "--cases", "one_token"]) == 0
    assert "1 cases" in capsys.readouterr().out
    case = tmp_path / "one_token.npz"
    ref, _ = vectors.load(case)
    np.savez(tmp_path / "good.npz", y=ref.y)
    np.savez(tmp_path / "bad.npz", y=2 * ref.y)
    assert command_line.main(["verify", str(tmp_path / "good.npz"), str(case)]) == 0
    assert command_line.main(["verify", str(tmp_path / "bad.npz"), str(case), "--json"]) == 1
    assert '"verdict": "fail"' in capsys.readouterr().out
    assert command_line.main(["verify", str(case), str(case)]) == 2
    assert command_line.main(["vectors", "--out", str(tmp_path), "--cases", "none"]) == 2


def header(entry):
    text = json.dumps(entry).encode()
    return len(text).to_bytes(8, "little") + text


Y = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
BROKEN = {
    "empty.npz": b"", "text.npz": b"hello", "empty.safetensors": b"", "list.safetensors":
    header([]), "number.safetensors": header(3), "entry.safetensors": header({"y": 3}),
    "offsets.safetensors": header({"y": {"dtype": "F64", "shape": [1]}}),
    "negative.safetensors": header({"y": {**Y, "data_offsets": [-8, 0]}}) + bytes(8),
    "short.safetensors": header({"y": Y}) + bytes(4),
    "shape.safetensors": header({"y": {**Y, "shape": [2]}}) + bytes(8),
    "dtype.safetensors": header({"y": {**Y, "dtype": ["F64"]}}) + bytes(8)}


@pytest.mark.parametrize("name", [*BROKEN, "half.npz", "flipped.npz", "array.npz"])
def test_a_broken_file_is_no_wrong_kernel(folder, tmp_path, name, capsys):
    """One line that names the file, and status 2; 1 would mean that the numbers are wrong."""
    case, path = folder / "one_token.npz", tmp_path / name
    whole = case.read_bytes()
    with open(path, "wb") as file:
        if name == "array.npz":
            np.save(file, np.ones(3))
        file.write({"half.npz": whole[:len(whole) // 2], "array.npz": b"", "flipped.npz":
                    whole[:3000] + bytes([whole[3000] ^ 255]) + whole[3001:], **BROKEN}[name])
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


def test_cases_written_later_join_the_manifest(tmp_path):
    def listed():
        return [entry["name"] for entry in json.loads(manifest.read_text())["cases"]]

    *_, manifest = vectors.write(tmp_path, ["top2_drops"])
    vectors.write(tmp_path, ["one_token"])
    assert listed() == [name for name in CASES if name in ("top2_drops", "one_token")]
    (tmp_path / "top2_drops.npz").unlink()
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


@pytest.mark.crosscheck
def test_a_cpp_program_judges_its_own_loop(folder, tmp_path):
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    source = Path(__file__).with_name("judge.cpp")
    assert len(source.read_text().splitlines()) <= 60
    limit = json.loads((folder / "manifest.json").read_text())["limit"]

    def run(gate, case):
        program = tmp_path / gate
        if not program.exists():
            meaning = {"right": "p[e]/total", "missing": "1.0f"}[gate]
            subprocess.run([compiler, "-std=c++17", "-O1", f"-DGATE={meaning}", str(source), "-o",
                            str(program)], check=True)
        return subprocess.run([program, folder / f"{case}.safetensors", str(limit)],
                              capture_output=True, text=True)

    assert run("right", "no_such_case").returncode == 2
    few = subprocess.run([tmp_path / "right"], capture_output=True, text=True)
    assert few.returncode == 2 and "usage: judge CASE.safetensors LIMIT" in few.stdout
    for case in ("switch_drops", "top2_drops", "padding", "two_groups", "empty_expert",
                 "drifted_replay", "hot_logits", "exact_top2_drops"):
        good = run("right", case)
        assert good.returncode == 0 and good.stdout.count("ok") == 2, (case, good.stdout)
        bad = run("missing", case)
        assert bad.returncode == 1 and "is wrong" in bad.stdout, (case, bad.stdout)
