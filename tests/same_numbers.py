"""Do two checkouts compute the same numbers? Record them in one, compare them in another.

    PYTHONPATH=BEFORE python tests/same_numbers.py record numbers.npz
    python tests/same_numbers.py compare numbers.npz

300 layers (the paper's and every preset's; padding, groups, noise, K > 1, both layouts, float32 and
float64) and 20 whole models. Plans must be equal; what is float64 agrees to 1e-13 of its tensor's
largest entry, what is float32 to 2e-5. A model replays the recorded plans. Public calls alone are
used, so that any two versions can be compared.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np

import switch_np as snp
from switch_np.conventions.libraries import PRESETS
from switch_np.operations import tree
from switch_np.oracle.truth.decisions import as_plan

PLAN = ("expert", "slot", "kept", "token", "choice", "row", "start", "group", "load", "capacity",
        "balance_count", "balance_tokens")
LAYERS, MODELS = 300, 20
CLOSE = {np.float64: 1e-13, np.float32: 2e-5}


def papers_config(rng):
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


def presets_config(rng, name):
    """Draw a layer of another library's."""
    own = snp.SwitchConfig.like(name, num_experts=8)
    limit = {"capacity": 3} if own.capacity is not None or rng.random() < 0.3 else {}
    return snp.SwitchConfig.like(
        name, num_experts=8, layout=str(rng.choice(["packed", "buffers"])),
        expert_dropout=float(rng.choice([0, 0.3])), jitter=float(rng.choice([0, 0.1])),
        groups="rows" if own.groups == "rows" else ["all", 3][rng.integers(2)], **limit)


def draw(rng, config, dtype):
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


def layer_computed(config, asked, recorded):
    """Return all that the layer gives; other gradients arrive at probabilities and logits too."""
    options = {name: asked[name] for name in ("padding", "noise", "training") if name in asked}
    out, cache = snp.switch_layer.forward(asked["params"], asked["x"], config, **options)
    d_x, grads = snp.switch_layer.backward(asked["d_y"], cache, asked["balance_coef"],
                                           asked["z_coef"])
    more_d_x, more = snp.switch_layer.backward(asked["d_y"], cache, 0.5, d_probs=out.probs,
                                               d_logits=out.logits * out.logits.dtype.type(0.1))
    found = {name: getattr(out, name) for name in ("y", "balance_loss", "z_loss", "probs", "logits",
                                                   "gates")}
    found |= {"d_x": d_x, "more_d_x": more_d_x}
    found |= {f"d_{name}": value for name, value in grads.items()}
    found |= {f"more_d_{name}": value for name, value in more.items()}
    return found | {f"plan.{name}": getattr(out.plan, name) for name in PLAN}


def model_config(rng, i, kind):
    """Draw a model whose Switch layers are of one kind."""
    switch = (snp.SwitchConfig(num_experts=4, top_k=1 + i % 4 // 3, expert_dropout=0.2,
                               router_bias=bool(rng.integers(2)), groups=["all", "rows"][i % 4 > 1])
              if kind == "paper" else snp.SwitchConfig.like(kind, num_experts=4))
    pools = i % 3 == 0 and kind in ("paper", "hf_switch", "hf_mixtral")
    return snp.ModelConfig(
        vocab_size=40, d_model=16, d_ff=24, num_heads=2, d_kv=8, num_layers=3, switch=switch,
        num_encoder_layers=[0, 2][int(rng.integers(2))], encoder_switch_every=1,
        activation=["relu", "gelu_tanh"][i % 2], gated=bool(i % 4 == 1),
        tie_embeddings=["all", "inputs", "none"][i % 3], dropout=float(rng.choice([0, 0.2])),
        balance_coef=0.3, z_coef=0.1, router_losses="pooled" if pools else "sum", init_scale=1.0)


def model_problem(rng, config, dtype):
    """Draw parameters and a batch."""
    params = tree.apply(lambda a: (a + 0.1 * rng.standard_normal(a.shape)).astype(dtype),
                        snp.model.init(rng, config))
    ids, targets = rng.integers(0, 40, (2, 3, 9))
    targets[0, 1] = -100
    padding = np.arange(9) >= 9 - np.arange(3)[:, None] if rng.random() < 0.5 else None
    batch = snp.Batch(ids, targets, padding)
    return params, batch if not config.num_encoder_layers else batch._replace(
        source=rng.integers(0, 40, (3, 5)),
        source_padding=np.arange(5) >= 5 - np.arange(3)[:, None])


def model_computed(config, params, batch, rng, recorded):
    """Return losses, gradients and plans."""
    noise = snp.model.draw_noise(
        rng, config, batch.inputs.shape, params["embedding"]["table"].dtype,
        None if batch.source is None else batch.source.shape)
    loss, grads = snp.model.loss_and_grads(
        params, batch, config, noise=noise, training=True,
        plans=recorded and list(recorded_plans(config, batch, recorded)))
    found = {"total": loss.total, "cross_entropy": loss.cross_entropy,
             "balance": np.array(loss.balance), "z": np.array(loss.z), **tree.flatten(grads)}
    for i, plan in enumerate(loss.plans):
        found |= {f"plan.{i}.{name}": getattr(plan, name) for name in PLAN}
    return found


def recorded_plans(config, batch, recorded):
    """Yield a model's recorded plans."""
    for i, layer in enumerate(config.switch_names):
        encodes = layer.startswith("encoder")
        of, padding = (batch.source, batch.source_padding) if encodes else (
            batch.inputs, batch.padding)
        groups = {"all": 1, "rows": len(of)}.get(config.switch.groups, config.switch.groups)
        yield as_plan({part: recorded[f"plan.{i}.{part}"] for part in ("expert", "kept", "slot")},
                      config.switch, of.size, num_groups=groups, training=True,
                      padding_T=None if padding is None else padding.ravel())


def problems():
    """Yield each problem's name and dtype, and what computes it, given what was recorded of it."""
    names = [name for name in PRESETS if name != "paper"]
    for i in range(LAYERS):
        rng = np.random.default_rng(i)
        name = "paper" if i % 2 else names[i // 2 % len(names)]
        config = papers_config(rng) if name == "paper" else presets_config(rng, name)
        dtype = np.float32 if rng.random() < 0.3 else np.float64
        yield f"{i:03}.{name}", dtype, partial(layer_computed, config, draw(rng, config, dtype))
    kinds = ["paper", "hf_switch", "hf_mixtral", "mesh_tf", "deepspeed_top2"]
    for i in range(MODELS):
        rng, dtype = np.random.default_rng(1000 + i), [np.float64, np.float64, np.float32][i % 3]
        kind = "paper" if i % 2 else kinds[i // 2 % len(kinds)]
        config = model_config(rng, i, kind)
        yield f"model{i:02}.{kind}", dtype, partial(
            model_computed, config, *model_problem(rng, config, dtype), rng)


def record(path):
    """Write all numbers of this checkout into one file."""
    arrays = {f"{name}/{key}": value for name, _, compute in problems()
              for key, value in compute(None).items()}
    np.savez_compressed(path, **arrays)
    print(f"{len(arrays)} arrays of {LAYERS} layers and {MODELS} models of {snp.__file__}")


def compare(path):
    """Compare this checkout's numbers with a record; print what differs, and return how many."""
    with np.load(path) as file:
        stored = {}
        for name in file.files:
            stored.setdefault(name.partition("/")[0], {})[name.partition("/")[2]] = file[name]
    wrong, worst = [], dict.fromkeys(CLOSE, 0.0)
    for name, dtype, compute in problems():
        found, wanted = compute(stored[name]), stored[name]
        if wanted.keys() != found.keys():
            wrong.append(f"{name}: other arrays: {sorted(wanted.keys() ^ found.keys())}")
        for key in wanted.keys() & found.keys():
            want, got = wanted[key], np.asarray(found[key])
            if (want.shape, want.dtype) != (got.shape, got.dtype):
                wrong.append(f"{name}: {key} is {got.dtype} {got.shape}, was {want.dtype} "
                             f"{want.shape}")
            elif not np.array_equal(want, got, equal_nan=want.dtype.kind == "f"):
                error = np.abs(want - got).max() / np.abs(want).max()
                if want.dtype.kind != "f" or not error <= CLOSE[dtype]:
                    wrong.append(f"{name}: {key} is off by {error:.1e}")
                worst[dtype] = max(worst[dtype], error)
    print(*wrong, sep="\n")
    print(f"{LAYERS} layers and {MODELS} models of {snp.__file__}: {len(wrong)} wrong; largest "
          "error by the tensor's largest entry: "
          + ", ".join(f"{error:.1e} in {dtype.__name__}" for dtype, error in worst.items()))
    return len(wrong)


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        record(Path(sys.argv[2]))
    else:
        sys.exit(min(compare(Path(sys.argv[2])), 1))
