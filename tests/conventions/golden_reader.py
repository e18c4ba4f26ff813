"""Recorded layers of other libraries, read as cases of ours: preset, parameters, what comes out.

Nothing here knows a single case. The library's name and a field or two choose the preset; the rest
of the sidecar and the arrays that are there replace its numbers. What cannot be read is an error.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import switch_np as snp
from switch_np import plans
from switch_np.conventions import choose as choices
from switch_np.conventions.noise import Noise
from switch_np.switch.plan import Plan

PRESET = {
    "mesh_tf": ("gating", {"switch": "mesh_tf", "top_2": "mesh_tf_top2"}),
    "flaxformer": ("router", {"masked": "flaxformer", "expert_choice": "flaxformer",
                              "scatter": "flaxformer_scatter"}),
    "deepspeed": ("k", {1: "deepspeed_top1", 2: "deepspeed_top2", 3: "deepspeed_topk_before_7986"}),
    "lucidrains_moe": ("impl", {"lucidrains_moe": "lucidrains"}),
}
# Fields of a sidecar (or of its conventions or dims), and what their values mean.
FIELDS: dict[str, Any] = {
    "k": lambda v: {"top_k": v}, "E": lambda v: {"num_experts": v},
    "capacity_factor": lambda v: {
        "capacity_factor": abs(v) if v else None, "eval_capacity_factor": "same"},
    **dict.fromkeys(["min_capacity", "min_expert_capacity"], lambda v: {"min_capacity": v}),
    "router": lambda v: {"chooser": "experts", "balance_counts": "none"} if v == "expert_choice"
    else {},
    "batch_prioritized_routing": lambda v: {"priority": "batch"} if v else {},
    "drop_tokens": lambda v: {} if v else {"capacity_factor": None, "capacity": None},
    "drop_policy": lambda v: {"probs": {}, "position": {"priority": "token"}}[v],
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
    "n_group": lambda v: {"select_groups": v}, "topk_group": lambda v: {"select_groups_kept": v},
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
    """What goes in, and what the library gave, under its own names in `arrays`.

    `x` and `upstream` are filled up with zeros where the library did so; `cut` takes that back.
    """

    config: snp.SwitchConfig
    params: dict[str, np.ndarray]
    x: np.ndarray
    upstream: np.ndarray
    padding: np.ndarray | None
    noise: Noise
    plan: Plan | None
    training: bool
    coefs: tuple[float, float]
    microbatches: int
    limited: bool
    tolerance: float
    arrays: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]

    def cut(self, filled: np.ndarray) -> np.ndarray:
        """Return an array without what was filled up."""
        shape = self.arrays["x"].shape
        return filled.reshape(self.x.shape)[:shape[0], :shape[1]]


def read(path: Path) -> Case:
    """Read the case whose sidecar lies at `path`."""
    sidecar = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = {name: stored[name] for name in stored.files}
    tolerance = {"float64": 1e-12, "float32": 1e-5}[sidecar["precision"]]
    arrays = {name: value.astype(np.float64) if value.dtype.kind == "f" else value
              for name, value in arrays.items()}
    if "kept" not in arrays and "expert_index" in arrays:  # a library without capacity
        arrays["kept"] = np.ones(arrays["expert_index"].shape, bool)
    flat = sidecar | sidecar["dims"] | sidecar["conventions"]
    params, grads = _parameters(arrays)
    config = _config(preset_name(sidecar), flat, arrays, params)

    x, upstream, padding = arrays["x"], arrays["R"], _padding(flat, arrays)
    if "padded_shape" in arrays:
        shape = (*map(int, arrays["padded_shape"]), x.shape[-1])
        x, upstream = _filled(x, shape), _filled(upstream, shape)
    if padding is not None:
        padding = padding.reshape(x.shape[:-1])
    noise, replay = _noise(config, arrays, int(np.prod(x.shape[:-1])))
    case = Case(config, params, x, upstream, padding, noise, None,
                bool(sidecar.get("train", "train mode" in sidecar["source"])),
                _coefficients(flat, arrays, tolerance), sidecar.get("num_microbatches", 1),
                flat.get("capacity_factor", 1) > 0, tolerance, arrays, grads)
    if replay:
        case.plan = recorded_plan(case)
    elif config.conventions.second_policy in ("threshold", "random"):
        case.config = _with_threshold(case, flat)
    return case


def run(case: Case) -> tuple[snp.switch_layer.LayerOutput, snp.switch_layer.LayerCache]:
    """Return what our layer makes of the case."""
    return snp.switch_layer.forward(case.params, case.x, case.config, plan=case.plan,
                                    padding=case.padding, noise=case.noise, training=case.training)


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


def _padding(flat: dict[str, Any], arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    real = [arrays[name] for name in REAL_TOKENS if name in arrays]
    if not real and (flat.get("padding") or "none")[:4] != "none":
        raise ValueError("the conventions speak of padding, but no mask is recorded")
    return real[0] == 0 if real else None


def _filled(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(shape)
    found[:x.shape[0], :x.shape[1]] = x
    return found


def _coefficients(flat: dict[str, Any], arrays: dict[str, np.ndarray],
                  tolerance: float) -> tuple[float, float]:
    """Return the two losses' coefficients, with which the recorded objective comes out."""
    aux, z = (next((float(arrays[name]) for name in names if name in arrays), 0.0)
              for names in (("coef_aux", "coef_balance"), ("coef_z",)))
    terms = arrays["y"] * arrays["R"]
    losses = [float(arrays.get(name, 0.0)) for name in ("aux_loss", "z_loss")]
    for coefs in ((aux, z), (aux, aux * z)):               # a loss's coefficient may hold for both
        value = terms.sum() + coefs[0] * losses[0] + coefs[1] * losses[1]
        if abs(value - float(arrays["objective"])) <= tolerance * abs(terms).sum():
            return coefs
    raise ValueError(f"the objective {flat['objective']!r} cannot be read")


def _with_threshold(case: Case, flat: dict[str, Any]) -> snp.SwitchConfig:
    """Return the config, its threshold read off the recorded choices where it is not recorded."""
    if "second_threshold" in flat:
        return case.config
    conventions, k = case.config.conventions, case.config.top_k
    out, _ = run(case)
    held = choices.policy_gates(out.plan.expert, out.probs, conventions)
    if conventions.second_policy == "random":
        held = held / np.maximum(case.noise.policy, 1e-300)
    steps = np.append(0, np.sort(held, axis=None))
    for threshold in (conventions.second_threshold, *((steps[1:] + steps[:-1]) / 2), steps[-1] + 1):
        config = replace(case.config, conventions=replace(
            conventions, second_threshold=float(threshold)))
        found, _ = run(replace(case, config=config))
        if (found.plan.kept == case.arrays["kept"].reshape(-1, k)).all():
            return config
    raise ValueError("no threshold of the second policy gives the recorded choices")


def preset_name(sidecar: dict[str, Any]) -> str:
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
        if name.startswith("d_") and not name.startswith("d_param:"):
            grads[ARRAYS[name[2:]]] = value
    params |= _native(arrays, r"param:")
    grads |= _native(arrays, r"(grad|d_param):")
    return params, grads


def _native(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the experts of a torch module: net.0 Linear of both branches, net.1, net.2 Linear."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for name, value in arrays.items():
        if not re.match(prefix + ".*expert", name):
            continue
        parts = re.fullmatch(r".*?expert\D*(?P<e>\d+)\.net\.(?P<place>\d)\.(?P<kind>\w+)", name)
        if not parts:
            raise ValueError(f"array {name!r} cannot be read")
        e, place, kind = int(parts["e"]), parts["place"], parts["kind"]
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
        if flat.get(name) is not None:
            settings |= meaning(flat[name])
    if flat.get("drop_policy") == "probs" and "logits" not in flat["priority"].lower():
        settings["priority"] = "gate"
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
    found = re.search("swiglu|geglu|relu|silu|swish|gelu", activation.lower())
    if activation and not found:
        raise ValueError(f"activation {activation!r} cannot be read")
    smooth = re.search("tanh|approx", activation) or "flax" in preset
    kinds = {"swiglu": "silu", "swish": "silu", "silu": "silu", "relu": "relu",
             "gelu": "gelu_tanh" if smooth else "gelu"}
    kind = kinds[found[0].replace("geglu", "gelu")] if found else "relu"
    return {"expert_activation": kind, "expert_gated": "w_gate" in params,
            "expert_biases": "b_in" in params, "expert_hidden_scale": False}


def _noise(config: snp.SwitchConfig, arrays: dict[str, np.ndarray],
           tokens: int) -> tuple[Noise, bool]:
    """Return the noise that was recorded, and whether choices must be replayed for lack of it."""
    conventions, e, k = config.conventions, config.num_experts, config.num_choices
    noise, replay = Noise(), False
    if conventions.priority == "random":        # who was kept is all that is known of the order
        kept = arrays["kept"].reshape(tokens, k)
        noise = noise._replace(priority=kept.astype(np.float64))
    if conventions.second_policy == "random":
        drawn = _drawn(arrays, "unif|rand|policy", tokens, (k, k - 1))
        replay |= drawn is None
        noise = noise._replace(policy=None if drawn is None else drawn[:, -(k - 1):])
    if conventions.second_choice == "sampled":
        noise = noise._replace(second=_drawn(arrays, "gumbel|noise", tokens, (e,)))
        replay |= noise.second is None
    return noise._replace(jitter=_drawn(arrays, "jitter", tokens, arrays["x"].shape[-1:])), replay


def _drawn(arrays: dict[str, np.ndarray], pattern: str, tokens: int,
           widths: tuple[int, ...]) -> np.ndarray | None:
    """Return the one recorded array (tokens, width) whose name fits; None if there is none."""
    found = [value for name, value in arrays.items() if re.search(pattern, name)
             and value.dtype.kind == "f" and value.size in [tokens * width for width in widths]
             and value.size > 1]
    if len(found) > 1:
        raise ValueError(f"one array of random numbers like {pattern!r} is wanted, got several")
    if not found:
        return None
    value, width = found[0], found[0].size // tokens
    if width > 1 and value.shape[0] == width and value.shape[-1] != width:    # choices first
        return np.moveaxis(value, 0, -1).reshape(tokens, width)
    return value.reshape(tokens, width)
