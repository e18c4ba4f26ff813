"""Recorded layers of other libraries, read as cases of ours: preset, parameters, what must come out.

Nothing here knows a single case. The library's name and a field or two choose the preset; the rest
of the sidecar and the arrays that are there replace its numbers. What cannot be read is an error.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import switch_np as snp
from switch_np.switch import plan as plans
from switch_np.switch.noise import Noise
from switch_np.switch.plan import Plan

PRESET = {
    "mesh_tf": ("gating", {"switch": "mesh_tf", "top_2": "mesh_tf_top2"}),
    "flaxformer": ("router", {"masked": "flaxformer", "expert_choice": "flaxformer",
                              "scatter": "flaxformer_scatter"}),
    "deepspeed": ("k", {1: "deepspeed_top1", 2: "deepspeed_top2", 3: "deepspeed_topk"}),
    "lucidrains_moe": ("impl", {"lucidrains_moe": "lucidrains"}),
}
# Fields of a sidecar (or of its conventions or dims), and what their values mean.
FIELDS: dict[str, Any] = {
    "k": lambda v: {"top_k": v},
    "E": lambda v: {"num_experts": v},
    "capacity_factor": lambda v: {
        "capacity_factor": abs(v) if v else None, "eval_capacity_factor": "same"},
    "min_capacity": lambda v: {"min_capacity": v},
    "min_expert_capacity": lambda v: {"min_capacity": v},
    "router": lambda v: {"chooser": "experts", "balance_counts": "none"} if v == "expert_choice"
    else {},
    "batch_prioritized_routing": lambda v: {"priority": "batch"} if v else {},
    "drop_tokens": lambda v: {} if v else {"capacity_factor": None, "capacity": None},
    "drop_policy": lambda v: {None: {}, "probs": {}, "position": {"priority": "token"}}[v],
    "top2_2nd_expert_sampling": lambda v: {"second_choice": "sampled" if v else "largest"},
    "norm_topk_prob": lambda v: {} if v else {"renorm": "none"},
    "normalize_gate": lambda v: {} if v else {"renorm": "none"},
    "routed_scaling_factor": lambda v: {"gate_scale": v},
    "dropped_passthrough": lambda v: {"dropped": "gated_identity" if v else "zero"},
    "is_scale_prob": lambda v: {} if v else {"gate_gradient": "unit"},
    "is_postscore": lambda v: {} if v else {"gate_at": "input"},
    "straight_through_dispatch_tensor": lambda v: {
        "dispatch_gradient": "straight_through" if v else "stop"},
    "second_policy": lambda v: {"second_policy": v},
    "second_threshold": lambda v: {"second_threshold": v},
    "use_second_place_loss": lambda v: {"second_balance": bool(v)},
    "n_group": lambda v: {"select_groups": v},
    "topk_group": lambda v: {"select_groups_kept": v},
    "n_shared": lambda v: {"shared_experts": v},
}
ARRAYS = {"router_w": "w_router", "router_b": "b_router", "wi": "w_in", "wo": "w_out",
          "bi": "b_in", "bo": "b_out", "wi_0": "w_gate", "wi_1": "w_in", "w_gate": "w_gate",
          "w_up": "w_in", "w_down": "w_out", "score_bias": "select_bias",
          "shared_w_gate": "shared_w_gate", "shared_w_up": "shared_w_in",
          "shared_w_down": "shared_w_out"}
REAL_TOKENS = ("nonpadding", "padding_mask", "attention_mask", "used_token", "token_mask")


@dataclass
class Case:
    """What goes in, and what the library gave: `want` by our names, plan and gates as (T, E)."""

    config: snp.SwitchConfig
    preset: str
    params: dict[str, np.ndarray]
    x: np.ndarray
    upstream: np.ndarray
    padding: np.ndarray | None
    noise: Noise
    plan: Plan | None
    training: bool
    coef_balance: float
    coef_z: float
    microbatches: int
    limited: bool
    tolerance: float
    arrays: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]

    @property
    def tokens(self) -> int:
        """The tokens of the library's input, before it was filled up to whole groups."""
        return int(np.prod(self.arrays["x"].shape[:-1]))


def read(path: Path) -> Case:
    """Read the case whose sidecar lies at `path`."""
    sidecar = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = {name: stored[name] for name in stored.files}
    single = sidecar["precision"] == "float32"
    if not single and sidecar["precision"] != "float64":
        raise ValueError(f"precision {sidecar['precision']!r} cannot be read")
    arrays = {name: value.astype(np.float64) if value.dtype.kind == "f" else value
              for name, value in arrays.items()}
    flat = sidecar | sidecar["dims"] | sidecar["conventions"]
    preset = _preset(sidecar)
    params, grads = _parameters(arrays)
    config = _config(preset, flat, arrays, params)

    x, upstream = arrays["x"], arrays["R"]
    tokens = int(np.prod(x.shape[:-1]))
    real = [arrays[name] for name in REAL_TOKENS if name in arrays]
    padding = None if not real else real[0].reshape(-1) == 0
    if padding is None and flat.get("padding", "none")[:4] != "none":
        raise ValueError("the conventions speak of padding, but no mask is recorded")
    if isinstance(config.groups, int):                     # filled up with zeros to whole groups
        extra = config.groups * int(arrays["tokens_per_group"]) - tokens
        x, upstream = (np.concatenate([a.reshape(tokens, -1), np.zeros((extra, a.shape[-1]))])
                       for a in (x, upstream))
        if padding is not None and len(padding) == tokens:
            padding = np.append(padding, np.ones(extra, bool))
    if padding is not None:
        padding = padding.reshape(x.shape[:-1])
    noise, replay = _noise(config, arrays, tokens)
    coefs = [next((float(arrays[name]) for name in names if name in arrays), 0.0)
             for names in (("coef_aux", "coef_balance"), ("coef_z",))]
    case = Case(config, preset, params, x, upstream, padding, noise, None,
                bool(sidecar.get("train", "train mode" in sidecar["source"])), *coefs,
                sidecar.get("num_microbatches", 1), flat.get("capacity_factor", 1) > 0,
                1e-5 if single else 1e-12, arrays, grads)
    if replay:
        case.plan = recorded_plan(case)
    return case


def recorded_plan(case: Case) -> Plan:
    """Return the plan that the library made, from its choices."""
    k = case.config.num_choices
    expert, kept = (case.arrays[name].reshape(-1, k) for name in ("expert_index", "kept"))
    slot = case.arrays["position"].reshape(-1, k) if "position" in case.arrays else None
    groups = {"all": 1, "rows": len(case.x)}.get(case.config.groups, case.config.groups)
    return plans.from_choices(
        expert.astype(int), case.config, kept=kept, num_groups=groups,
        slot=None if slot is None else slot.astype(int),
        padding=None if case.padding is None else case.padding.reshape(-1), training=case.training)


def _preset(sidecar: dict[str, Any]) -> str:
    name = sidecar["impl"]
    if name in PRESET:
        field, names = PRESET[name]
        value = sidecar[field]
        name = names[min(value, 3) if field == "k" else value]
    if name not in snp.presets():
        raise ValueError(f"library {name!r} cannot be read")
    return name


def _parameters(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray],
                                                        dict[str, np.ndarray]]:
    """Return parameters and gradients under our names; a gradient that has none is an error."""
    params = {ours: arrays[theirs] for theirs, ours in ARRAYS.items() if theirs in arrays}
    grads = {"x": arrays["dx"]}
    for name, value in arrays.items():
        if name.startswith("d_"):
            grads[ARRAYS[name[2:]]] = value
    native = {name for name in arrays if re.match(r"(param|grad):", name)}
    for found, prefix in ((params, "param:"), (grads, "grad:")):
        if any(name.startswith(prefix) for name in native):
            found.update(_native(arrays, prefix))
    return params, grads


def _native(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the experts of a torch module: net.0 Linear of both branches, net.1, net.2 Linear."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for name, value in arrays.items():
        if not name.startswith(prefix):
            continue
        parts = re.fullmatch(r".*?expert\D*(\d+)\.net\.(\d)\.(\w+)", name)
        if not parts:
            raise ValueError(f"array {name!r} cannot be read")
        e, place, kind = int(parts[1]), parts[2], parts[3]
        if place == "0":
            half = len(value) // 2
            for ours, piece in (("in", value[:half]), ("gate", value[half:])):
                found.setdefault(("w_" if kind == "weight" else "b_") + ours, {})[e] = piece.T
        else:
            ours = {"weight": "w_out", "bias": "b_out", "mult_bias": "hidden_scale"}[kind]
            found.setdefault(ours, {})[e] = value.T
    return {ours: np.stack([by_expert[e] for e in sorted(by_expert)])
            for ours, by_expert in found.items()}


def _config(preset: str, flat: dict[str, Any], arrays: dict[str, np.ndarray],
            params: dict[str, np.ndarray]) -> snp.SwitchConfig:
    """Return the preset with the sidecar's numbers."""
    default = snp.SwitchConfig.like(preset)
    settings: dict[str, Any] = {"second_policy": "all", "router_bias": "b_router" in params,
                                "jitter": 0.0}
    told = re.search(r"second policy (\w+)", flat["source"])
    if told:
        settings["second_policy"] = told[1]
    for name, meaning in FIELDS.items():
        if flat.get(name) is not None or name in ("drop_policy",):
            settings |= meaning(flat.get(name))
    if default.capacity is not None:
        settings["capacity"] = int(arrays["capacity"])
    elif default.capacity_factor is not None and "capacity_factor" not in settings:
        raise ValueError("no capacity factor is recorded")
    if default.groups == "all" and "num_groups" in arrays:
        settings["groups"] = int(arrays["num_groups"])
    settings |= _experts(preset, flat["activation"] if "activation" in flat else "", params)
    return snp.SwitchConfig.like(preset, **settings)


def _experts(preset: str, activation: str, params: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the kind of experts; it stands in the arrays that are there."""
    if "hidden_scale" in params:
        return {}
    words = re.match(r"\w*", activation)[0].lower()
    kinds = {"": "relu", "relu": "relu", "silu": "silu", "swish": "silu",
             "gelu": "gelu_tanh" if "flax" in preset else "gelu"}
    if words not in kinds:
        raise ValueError(f"activation {activation!r} cannot be read")
    return {"expert_activation": kinds[words], "expert_gated": "w_gate" in params,
            "expert_biases": "b_in" in params, "expert_hidden_scale": False}


def _noise(config: snp.SwitchConfig, arrays: dict[str, np.ndarray],
           tokens: int) -> tuple[Noise, bool]:
    """Return the noise that was recorded, and whether choices must be replayed for lack of it."""
    rules, e, k = config.conventions, config.num_experts, config.num_choices
    noise, replay = Noise(), False
    if rules.priority == "random":                         # all that is left of the random order
        kept = arrays["kept"].reshape(tokens, k)
        noise = noise._replace(priority=kept.astype(np.float64))
    if rules.second_policy == "random":
        noise = noise._replace(policy=_drawn(arrays, "uniform|rand", tokens, k)[:, -(k - 1):])
    if rules.second_choice == "sampled":
        replay = not any("gumbel" in name for name in arrays)
        noise = noise if replay else noise._replace(second=_drawn(arrays, "gumbel", tokens, e))
    if any("jitter" in name for name in arrays):
        noise = noise._replace(jitter=_drawn(arrays, "jitter", tokens, arrays["x"].shape[-1]))
    return noise, replay


def _drawn(arrays: dict[str, np.ndarray], pattern: str, tokens: int, width: int) -> np.ndarray:
    """Return the one recorded array of random numbers whose name fits, (tokens, some width)."""
    names = [name for name, value in arrays.items() if re.search(pattern, name)
             and value.size in (tokens * width, tokens * max(width - 1, 1))]
    if len(names) != 1:
        raise ValueError(f"one array of random numbers like {pattern!r} is wanted, got {names}")
    return arrays[names[0]].reshape(tokens, -1)
