"""Do two checkouts compute the same numbers? Record them in one, compare them in another.

    PYTHONPATH=BEFORE python tests/same_numbers.py record numbers.npz
    python tests/same_numbers.py compare numbers.npz

300 layers (the paper's and every preset's; padding, groups, noise, K > 1, both layouts, float32 and
float64) and 20 whole models. Plans must be equal; what is float64 agrees to 1e-13 of its tensor's
largest entry; what is float32 keeps within the oracle's own limits. A model replays the recorded
plans. Public calls alone are used, so that any two versions can be compared.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import switch_np as snp
from switch_np.operations import tree
from switch_np.oracle.truth.decisions import as_plan

PLAN = ("expert", "slot", "kept", "token", "choice", "row", "start", "group", "load", "capacity",
        "balance_count", "balance_tokens")
LAYERS, MODELS = 300, 20
CLOSE = 1e-13
CLOSE_FLOAT32 = 2e-5       # of a model's gradients, which no oracle judges


def papers_config(rng: np.random.Generator) -> snp.SwitchConfig:
    """Draw a layer of the paper's."""
    experts = int(rng.choice([1, 2, 4, 7]))
    limit = rng.choice(["factor", "absolute", "none"], p=[0.6, 0.2, 0.2])
    return snp.SwitchConfig(
        num_experts=experts, top_k=int(rng.integers(1, min(experts, 3) + 1)),
        groups=["all", "rows", 3][rng.integers(3)],
        capacity=int(rng.integers(0, 5)) if limit == "absolute" else None,
        capacity_factor=None if limit == "none" else float(rng.uniform(0.3, 2)),
        eval_capacity_factor=2.0, min_capacity=int(rng.integers(0, 3)),
        capacity_per_choice=bool(rng.integers(2)), router_bias=bool(rng.integers(2)),
        jitter=float(rng.choice([0, 0.1])), router_dropout=float(rng.choice([0, 0.3])),
        sample=bool(rng.integers(2)), expert_dropout=float(rng.choice([0, 0.4])),
        layout=str(rng.choice(["packed", "buffers"])))


def presets_config(rng: np.random.Generator, name: str) -> snp.SwitchConfig:
    """Draw a layer of another library's."""
    own = snp.SwitchConfig.like(name, num_experts=8)
    limit = {"capacity": 3} if own.capacity is not None or rng.random() < 0.3 else {}
    return snp.SwitchConfig.like(
        name, num_experts=8, layout=str(rng.choice(["packed", "buffers"])),
        expert_dropout=float(rng.choice([0, 0.3])), jitter=float(rng.choice([0, 0.1])),
        groups="rows" if own.groups == "rows" else ["all", 3][rng.integers(2)], **limit)


def layers() -> Iterator[tuple[str, snp.SwitchConfig, np.random.Generator, Any]]:
    """Yield name, config, generator and dtype of every layer."""
    names = [name for name in snp.presets() if name != "paper"]
    for i in range(LAYERS):
        rng = np.random.default_rng(i)
        name = "paper" if i % 2 else names[i // 2 % len(names)]
        config = papers_config(rng) if name == "paper" else presets_config(rng, name)
        yield f"{i:03}.{name}", config, rng, np.float32 if rng.random() < 0.3 else np.float64


def draw(rng: np.random.Generator, config: snp.SwitchConfig, dtype: Any) -> dict[str, Any]:
    """Draw a problem, arrays of `dtype`; noise in training or where the config always has it."""
    shape, d, f = [(3, 7), (3, 13)][rng.integers(2)], 6, 9
    asked = snp.oracle.draw(config, shape[0] * shape[1], d, f, seed=int(rng.integers(1000)),
                            batch=shape[0], training=bool(rng.integers(2)))
    if rng.random() < 0.5:
        asked["padding"] = rng.random(shape) < 0.25
    noise = asked.get("noise")
    if noise is not None:
        asked["noise"] = snp.Noise(*(part if part is None or part.dtype == bool else
                                     part.astype(dtype) for part in noise))
    asked["params"] = {name: value.astype(dtype) for name, value in asked["params"].items()}
    return asked | {name: asked[name].astype(dtype) for name in ("x", "d_y")}


def computed(config: snp.SwitchConfig, asked: dict[str, Any], plan: Any = None) -> dict[str, Any]:
    """Return all that the layer gives; other gradients arrive at probabilities and logits too."""
    options = {name: asked[name] for name in ("padding", "noise", "training") if name in asked}
    out, cache = snp.switch_layer.forward(asked["params"], asked["x"], config, plan=plan, **options)
    d_x, grads = snp.switch_layer.backward(asked["d_y"], cache, asked["balance_coef"],
                                           asked["z_coef"])
    more = snp.switch_layer.backward(asked["d_y"], cache, 0.5, d_probs=out.probs,
                                     d_logits=out.logits * out.logits.dtype.type(0.1))
    found = {name: getattr(out, name) for name in ("y", "balance_loss", "z_loss", "probs", "logits",
                                                   "gates")}
    found |= {"d_x": d_x} | {f"d_{name}": value for name, value in grads.items()}
    found |= {"more_d_x": more[0]} | {f"more_d_{name}": value for name, value in more[1].items()}
    return {name: np.asarray(value) for name, value in found.items()} | {
        f"plan.{name}": np.asarray(getattr(out.plan, name)) for name in PLAN}


def models() -> Iterator[tuple[str, Any, np.random.Generator, Any]]:
    """Yield name, config, generator and dtype of every model."""
    kinds = ["paper", "hf_switch", "hf_mixtral", "mesh_tf", "deepspeed_top2"]
    for i in range(MODELS):
        rng = np.random.default_rng(1000 + i)
        kind = "paper" if i % 2 else kinds[i // 2 % len(kinds)]
        switch = (snp.SwitchConfig(num_experts=4, top_k=1 + i % 4 // 3, expert_dropout=0.2,
                                   router_bias=bool(rng.integers(2)),
                                   groups=["all", "rows"][i % 4 > 1])
                  if kind == "paper" else snp.SwitchConfig.like(kind, num_experts=4))
        pools = i % 3 == 0 and kind in ("paper", "hf_switch", "hf_mixtral")
        config = snp.ModelConfig(
            vocab_size=40, d_model=16, d_ff=24, num_heads=2, d_kv=8, num_layers=3, switch=switch,
            num_encoder_layers=[0, 2][int(rng.integers(2))], encoder_switch_every=1,
            activation=["relu", "gelu_tanh"][i % 2], gated=bool(i % 4 == 1),
            tie_embeddings=["all", "inputs", "none"][i % 3], dropout=float(rng.choice([0, 0.2])),
            balance_coef=0.3, z_coef=0.1, router_losses="pooled" if pools else "sum",
            init_scale=1.0)
        yield f"model{i:02}.{kind}", config, rng, [np.float64, np.float64, np.float32][i % 3]


def model_problem(rng: np.random.Generator, config: Any,
                  dtype: Any) -> tuple[Any, Any, np.random.Generator]:
    """Draw parameters, a batch, and where the noise comes from."""
    params = tree.apply(lambda a: (a + 0.1 * rng.standard_normal(a.shape)).astype(dtype),
                        snp.model.init(rng, config))
    ids, targets = rng.integers(0, 40, (2, 3, 9))
    targets[0, 1] = -100
    padding = np.arange(9) >= 9 - np.arange(3)[:, None] if rng.random() < 0.5 else None
    if not config.num_encoder_layers:
        return params, snp.Batch(ids, targets, padding), rng
    return params, snp.Batch(ids, targets, padding, rng.integers(0, 40, (3, 5)),
                             np.arange(5) >= 5 - np.arange(3)[:, None]), rng


def model_computed(config: Any, params: Any, batch: Any, rng: np.random.Generator,
                   plans: Any = None) -> dict[str, Any]:
    """Return losses, gradients and plans."""
    noise = snp.model.draw_noise(
        rng, config, batch.inputs.shape, params["embedding"]["table"].dtype,
        None if batch.source is None else batch.source.shape)
    loss, grads = snp.model.loss_and_grads(params, batch, config, noise=noise, plans=plans,
                                           training=True)
    found = {"total": loss.total, "cross_entropy": loss.cross_entropy,
             "balance": np.array(loss.balance), "z": np.array(loss.z), **tree.flatten(grads)}
    found = {name: np.asarray(value) for name, value in found.items()}
    for i, plan in enumerate(loss.plans):
        found |= {f"plan.{i}.{name}": np.asarray(getattr(plan, name)) for name in PLAN}
    return found


def record(path: Path) -> None:
    """Write all numbers of this checkout into one file."""
    arrays: dict[str, np.ndarray] = {}
    for name, config, rng, dtype in layers():
        found = computed(config, draw(rng, config, dtype))
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    for name, config, rng, dtype in models():
        found = model_computed(config, *model_problem(rng, config, dtype))
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    np.savez_compressed(path, **arrays)
    print(f"{len(arrays)} arrays of {LAYERS} layers and {MODELS} models of {snp.__file__}")


def compare(path: Path) -> int:
    """Compare this checkout's numbers with a record; print what differs, and return how many."""
    with np.load(path) as file:
        stored = dict(file)
    worst = {"layers": 0.0, "models, float64": 0.0, "models, float32": 0.0}
    wrong: list[str] = []
    for name, config, rng, dtype in layers():
        asked = draw(rng, config, dtype)
        error = _held(name, computed(config, asked), stored, wrong,
                      CLOSE if dtype is np.float64 else np.inf)
        if dtype is np.float64:
            worst["layers"] = max(worst["layers"], error)
        else:
            wrong += _judged(name, config, asked, stored)
    for name, config, rng, dtype in models():
        params, batch, rng = model_problem(rng, config, dtype)
        plans = _recorded_plans(name, config, batch, stored)
        found = model_computed(config, params, batch, rng, plans)
        key = f"models, {np.dtype(dtype)}"
        worst[key] = max(worst[key], _held(name, found, stored, wrong, CLOSE if dtype is np.float64
                                           else CLOSE_FLOAT32))
    print(*wrong, sep="\n")
    print(f"{LAYERS} layers and {MODELS} models of {snp.__file__}: {len(wrong)} wrong; largest "
          f"error by the tensor's largest entry: "
          + ", ".join(f"{where} {error:.1e}" for where, error in worst.items()))
    return len(wrong)


def _held(name: str, found: dict[str, np.ndarray], stored: dict[str, np.ndarray], wrong: list[str],
          limit: float) -> float:
    """Return the largest error by its tensor's largest entry; say in `wrong` what exceeds it."""
    prefix, worst = name + "/", 0.0
    wanted = {key.removeprefix(prefix): value for key, value in stored.items()
              if key.startswith(prefix)}
    if wanted.keys() != found.keys():
        wrong.append(f"{name}: other arrays: {sorted(wanted.keys() ^ found.keys())}")
    for key in wanted.keys() & found.keys():
        want, got = wanted[key], found[key]
        if (want.shape, want.dtype) != (got.shape, got.dtype):
            wrong.append(f"{name}: {key} is {got.dtype} {got.shape}, was {want.dtype} {want.shape}")
        elif want.dtype.kind != "f":
            if not np.array_equal(want, got):
                wrong.append(f"{name}: {key} is another")
        elif want.size:
            error = 0.0
            if not np.array_equal(want, got, equal_nan=True):
                error = float(np.abs(want - got).max() / max(np.abs(want).max(), 1e-300))
            worst = max(worst, error)
            if not error <= limit:
                wrong.append(f"{name}: {key} is off by {error:.1e}")
    return worst


def _judged(name: str, config: snp.SwitchConfig, asked: dict[str, Any],
            stored: dict[str, np.ndarray]) -> list[str]:
    """Hold float32 numbers of this checkout and the recorded ones against the oracle."""
    ref = snp.oracle.reference(**asked)
    found = []
    for whose, got in (("now", computed(config, asked)),
                       ("before", {key.removeprefix(name + "/"): value for key, value in
                                   stored.items() if key.startswith(name + "/")})):
        report = snp.oracle.compare(
            ref, y=got["y"], balance_loss=got["balance_loss"], z_loss=got["z_loss"],
            grads={key[2:]: value for key, value in got.items() if key.startswith("d_")},
            expert=got["plan.expert"], kept=got["plan.kept"])
        if not report.ok:
            found.append(f"{name}, {whose}: {report}")
    return found


def _recorded_plans(name: str, config: Any, batch: Any, stored: dict[str, np.ndarray]) -> list[Any]:
    """Return a model's recorded plans."""
    plans = []
    for i, layer in enumerate(config.switch_names):
        of = batch.source if layer.startswith("encoder") else batch.inputs
        padding = batch.source_padding if layer.startswith("encoder") else batch.padding
        groups = {"all": 1, "rows": len(of)}.get(config.switch.groups, config.switch.groups)
        plans.append(as_plan(
            {part: stored[f"{name}/plan.{i}.{part}"] for part in ("expert", "kept", "slot")},
            config.switch, of.size, num_groups=groups,
            padding_T=None if padding is None else padding.ravel(), training=True))
    return plans


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        record(Path(sys.argv[2]))
    else:
        sys.exit(min(compare(Path(sys.argv[2])), 1))
