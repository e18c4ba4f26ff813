"""Test vectors for any language: problems, answers, and how far an answer may be off.

    in.x, in.w_router, ...       the problem, float64, representable in every precision
    plan.expert, .kept, .slot    the decisions
    ref.y, ref.d_w_in, ...       the answer
    term.d_w_router.balance, ... its additive terms, coefficients included
    sigma.float32.d_w_in, ...    what rounding may do, for each precision

A test in any language runs a case and demands |got - ref| <= limit · sigma for every element, with
the limit from the manifest; sigma is 0 where only 0 passes. Cases whose names begin with `exact`
demand ==. Each case is a safetensors and an npz file with the same arrays of F64, I64 and U8; a
manifest says which bug each is for, and how its gradients agree with the complex step (`certify`).
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from switch_np.conventions.noise import Noise
from switch_np.operations import reading, safetensors, signatures
from switch_np.operations.roundoff import PRECISIONS
from switch_np.oracle.judge.compare import compare
from switch_np.oracle.judge.report import Report
from switch_np.oracle.judge.tensor import LIMIT, RMS_LIMIT
from switch_np.oracle.prove.certify import certify
from switch_np.oracle.truth.reference import Reference, reference
from switch_np.oracle.vectors.cases import CASES, Case
from switch_np.switch.config import SwitchConfig

SCHEMA = 1
NEEDED = ("in.x", "in.d_y", "in.balance_coef", "in.z_coef", "plan.expert", "plan.kept",
          "plan.slot", "config", "training", "exact")


@signatures.checked
def write(folder: str | Path, names: list[str] | None = None) -> list[Path]:
    """Write cases, all or those named, and the manifest; return the paths.

    Unchanged cases that are already there stay in the manifest.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in write(folder, ["one_token"])]
    ['one_token.safetensors', 'one_token.npz', 'manifest.json']
    """
    folder = Path(folder)
    unknown = set(names or ()) - set(CASES)
    if unknown:
        raise ValueError(f"names must be among {', '.join(CASES)}, got {sorted(unknown)}")
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.json"
    entries, paths = {} if names is None else _listed(manifest), []
    for case in CASES.values():
        if names is None or case.name in names:
            arrays, about = pack(case)
            pair = [folder / f"{case.name}.{kind}" for kind in ("safetensors", "npz")]
            safetensors.write(pair[0], arrays, about)
            text = np.frombuffer(json.dumps(about).encode(), np.uint8)
            entry: dict[str, Any] = {"about": text, **arrays}
            np.savez(pair[1], **entry)
            entries[case.name] = {"name": case.name, "hunts": case.hunts, "exact": case.exact,
                                  "config": json.loads(about["config"]),
                                  "certificate": about["certificate"],
                                  "sha256": {path.name: reading.fingerprint(path.read_bytes())
                                             for path in pair}}
            paths += pair
    manifest.write_text(json.dumps({
        "schema": SCHEMA, "limit": LIMIT, "block_rms_limit": RMS_LIMIT,
        "precisions": {name: {"store": p.store, "accumulate": p.accumulate}
                       for name, p in PRECISIONS.items()},
        "objective": "sum(y * d_y) + balance_coef * balance_loss + z_coef * z_loss",
        "cases": [entries[name] for name in CASES if name in entries]}, indent=1) + "\n")
    return [*paths, manifest]


def _listed(manifest: Path) -> dict[str, dict[str, Any]]:
    """Return a manifest's entries whose files lie beside it as they were written."""
    if not manifest.exists():
        return {}
    with reading.naming(manifest, "a manifest of `vectors` to be written over"):
        return {entry["name"]: entry for entry in reading.json_file(manifest)["cases"]
                if all((manifest.parent / name).is_file()
                       and reading.fingerprint((manifest.parent / name).read_bytes()) == digest
                       for name, digest in entry["sha256"].items())}


@signatures.checked
def pack(case: Case) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of a case, and their description."""
    asked = case.make()
    ref = reference(**asked)
    p = ref.problem
    inputs = {"x": p.x, "d_y": p.d_y, **p.params, "balance_coef": float(p.balance_coef),
              "z_coef": float(p.z_coef), "padding": p.padding,
              **{f"noise.{name}": value for name, value in zip(Noise._fields, p.noise or ())}}
    arrays = {f"in.{name}": np.asarray(value) for name, value in inputs.items()
              if value is not None}
    arrays |= {f"plan.{name}": np.asarray(getattr(ref.plan, name))
               for name in ("expert", "kept", "slot", "group", "load", "capacity")}
    outputs = ref.outputs()
    arrays |= {f"ref.{name}": value for name, value in outputs.items()}
    arrays |= {f"ref.{name}": getattr(ref, name) for name in ("probs", "logits", "gates")}
    arrays |= {f"term.d_{name}.{term}": value for name, terms in ref.terms.items()
               if len(terms) > 1 for term, value in terms.items()}
    arrays |= {f"sigma.{kind}.{name}": ref.sigma(kind)[name]
               for kind in PRECISIONS for name in outputs}
    whole = {name: value.astype(np.int64) if value.dtype.kind == "i" else value
             for name, value in arrays.items()}
    about = {"case": case.name, "hunts": case.hunts, "config": json.dumps(asdict(p.config)),
             "exact": json.dumps(case.exact), "training": json.dumps(bool(p.training)),
             "certificate": str(certify(ref))}
    return whole, {**about, "sha256": reading.fingerprint_of(whole, about)}


@signatures.checked
def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of a safetensors or npz file, and their description."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return safetensors.read(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path} must end in .npz or .safetensors")
    arrays = reading.npz(path)
    about = arrays.pop("about", np.frombuffer(b"{}", np.uint8))
    with reading.naming(path, "an npz file of `vectors`"):
        return arrays, reading.json_object(about.tobytes())


def load(path: str | Path) -> tuple[Reference, bool]:
    """Return the reference of a case's file, and whether every bit of it counts."""
    arrays, about = read(path)
    missing = [name for name in NEEDED if name not in {**arrays, **about}]
    if missing:
        raise ValueError(f"{path} must hold {', '.join(missing)} too, as `vectors` writes them")
    with reading.naming(path, "a case of `vectors`"):
        if about.get("sha256", digest := reading.fingerprint_of(arrays, about)) != digest:
            raise ValueError("contents that `vectors` did not write, by their SHA-256")
        return _load(arrays, about), bool(json.loads(about["exact"]))


def _load(arrays: dict[str, np.ndarray], about: dict[str, str]) -> Reference:
    config = reading.json_object(about["config"])
    inputs = {name[3:]: value for name, value in arrays.items() if name.startswith("in.")}
    noise = {name[6:]: inputs.pop(name) for name in list(inputs) if name.startswith("noise.")}
    asked: dict[str, Any] = {name: inputs.pop(name) for name in ("x", "d_y")}
    asked |= {name: float(inputs.pop(name)) for name in ("balance_coef", "z_coef")}
    if "padding" in inputs:
        asked["padding"] = inputs.pop("padding").astype(bool)
    if noise:
        asked["noise"] = Noise(**{name: value.astype(bool) if value.dtype == np.uint8 else value
                                  for name, value in noise.items()})
    plan = {name: arrays[f"plan.{name}"] for name in ("expert", "kept", "slot")}
    return reference(config=SwitchConfig(**config), params=inputs, plan=plan,
                     training=json.loads(about["training"]), **asked)


def verify(got: str | Path, case: str | Path, precision: str | None = None) -> Report:
    """Judge the file that a program wrote.

    Parameters
    ----------
    got
        npz or safetensors file with any of y, balance_loss, z_loss, d_x, d_w_router, d_w_in, ...,
        expert, kept, slot.
    case
        A file that `write` made.
    precision
        Default: that of the arrays.
    """
    ref, exact = load(case)
    arrays, _ = read(got)
    outputs = ref.outputs()
    decisions: dict[str, Any] = {name: arrays.pop(name) for name in ("expert", "kept", "slot")
                                 if name in arrays}
    unknown = sorted(set(arrays) - set(outputs))
    if unknown or (not arrays and not decisions):
        some = ", ".join(unknown[:5]) + ", ..." * (len(unknown) > 5)
        raise ValueError(f"{got} must hold arrays among {', '.join(outputs)}, expert, kept and "
                         f"slot, got {some or 'none'}")
    named: dict[str, Any] = {name: arrays.get(name) for name in ("y", "balance_loss", "z_loss")}
    grads = {name[2:]: value for name, value in arrays.items() if name.startswith("d_")}
    report = compare(ref, **named, grads=grads, **decisions, precision=precision)
    if not exact:
        return report
    differing = {name: np.count_nonzero(value.reshape(-1) != outputs[name].reshape(-1))
                 for name, value in arrays.items()
                 if name != "z_loss"               # the logarithm in it is no dyadic number
                 and value.size == outputs[name].size}
    other = [f"{name} differs in {count} of {arrays[name].size} entries, and here every bit counts"
             for name, count in differing.items() if count]
    return replace(report, verdict="fail" if other else report.verdict,
                   structure=(*report.structure, *other))
