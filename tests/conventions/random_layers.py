"""Random layers over all conventions, and their gradients against the complex step."""

from support import check_gradients

import switch_np as snp
from switch_np.conventions.noise import draw_noise, outside_training
from switch_np.conventions.table import CHOICES, Conventions

FLAGS = ["select_bias", "capacity_whole_share", "capacity_at_most_group", "renorm_single",
         "second_balance", "expert_gated", "expert_biases", "expert_hidden_scale", "shared_bias"]
KNOBS = [{name: option} for name, options in CHOICES.items() for option in options[1:]]
KNOBS += [{name: True} for name in FLAGS]
KNOBS += [{"renorm": when, "renorm_eps": 0.3, "renorm_eps_mode": mode, "renorm_power": power}
          for when in ("pre", "post") for mode in ("add", "clamp") for power in (1.0, 2.0)]
KNOBS += [{"renorm": "pre", "renorm_eps": 0.6, "renorm_eps_mode": "clamp"},
          {"gate_scale": 2.5}, {"shared_experts": 2, "expert_gated": True},
          {"shared_experts": 1, "shared_width": 5, "shared_gate": True},
          {"shared_experts": 1, "shared_average": True, "dropped": "gated_identity"},
          {"dropped": "gated_identity", "gate_gradient": "unit", "renorm": "pre"},
          {"expert_gated": True, "expert_biases": True, "expert_hidden_scale": True,
           "expert_activation": "gelu"}]
KNOBS += [{"balance_groups": 1}, {"balance_groups": 4, "second_balance": True},
          {"scores": "sigmoid", "balance_probs": "softmax", "balance_counts": "plain"}]
CLAMPED = {"expert_gated": True, "expert_activation": "silu", "expert_limit": 0.8}
KNOBS += [{**CLAMPED, "expert_silu_factor": 1.702, "expert_linear_offset": 1.0},
          {**CLAMPED, "expert_limit_at": "output", "shared_experts": 1, "shared_limit": 0.5},
          {**CLAMPED, "expert_activation": "relu", "shared_experts": 1, "shared_limit": None},
          {"expert_activation": "silu", "expert_silu_factor": 0.5}]


def random_config(rng, keep_paper=0.6):
    """Draw a config over all knobs, each left at the paper's with probability `keep_paper`."""
    groups = int(rng.choice([1, 2]))
    e = int(rng.choice([2, 4, 6])) if groups == 2 else int(rng.integers(1, 6))
    k = int(rng.integers(1, max(e // groups, 1) + 1))
    settings = {name: str(rng.choice(options)) for name, options in CHOICES.items()
                if rng.random() > keep_paper}
    settings |= {name: True for name in FLAGS if rng.random() > keep_paper}
    settings |= {"select_groups": groups, "select_group_best": int(rng.integers(1, 4)),
                 "capacity_multiple_of": int(rng.integers(1, 4)),
                 "capacity_unused": int(rng.integers(0, 2)),
                 "second_threshold": float(rng.choice([0.0, 0.2, 0.4])),
                 "logit_noise_scale": 0.5, "shared_experts": int(rng.integers(0, 3)),
                 "gate_scale": float(rng.choice([1.0, 2.5])),
                 "renorm_power": float(rng.choice([1.0, 2.0])),
                 "renorm_eps": [0.0, 1e-9, 0.3, "finfo"][rng.integers(4)],
                 "eval_capacity_fraction": [None, 0.25][rng.integers(2)]}
    if settings.get("chooser") == "experts":
        settings |= {"select_bias": False, "select_groups": 1, "second_choice": "largest",
                     "second_policy": "all", "priority": "choice"}
    if settings["shared_experts"]:
        settings |= {"shared_width": [None, 5][rng.integers(2)],
                     "shared_gate": bool(rng.random() < 0.5),
                     "shared_average": bool(rng.random() < 0.3)}
    if settings.get("expert_gated"):
        settings |= {"expert_limit": [None, 0.9][rng.integers(2)],
                     "expert_linear_offset": [0.0, 1.0][rng.integers(2)]}
        if settings["shared_experts"]:
            settings["shared_limit"] = ["same", None, 0.4][rng.integers(3)]
    if settings.get("expert_activation") == "silu":
        settings["expert_silu_factor"] = [1.0, 1.702][rng.integers(2)]
    if settings.get("gate_at", "output") != "output":
        settings["dispatch_gradient"] = "stop"
    g = int(rng.integers(1, 4))
    settings["balance_groups"] = ["same", 1, 2 * g][rng.integers(3)]
    settings["second_balance"] = settings.get("second_balance", False) and k > 1
    return snp.SwitchConfig(
        num_experts=e, top_k=k, capacity_factor=[None, 0.5, 1.0, 1.3][rng.integers(4)],
        eval_capacity_factor=["same", 0.8][rng.integers(2)], min_capacity=int(rng.integers(0, 3)),
        capacity_per_choice=bool(rng.random() < 0.5), groups=g,
        router_bias=bool(rng.random() < 0.5), jitter=float(rng.choice([0.0, 0.3])),
        router_dropout=float(rng.choice([0.0, 0.2])), sample=bool(rng.random() < 0.2)
        and settings.get("chooser") != "experts",
        expert_dropout=float(rng.choice([0.0, 0.4])),
        layout=str(rng.choice(["packed", "buffers"])), conventions=Conventions(**settings))


def problem(rng, config, group_size=None, d=3, f=4):
    """Draw parameters that are nowhere trivial, tokens, padding and noise."""
    group_size = int(rng.integers(0, 6)) if group_size is None else group_size
    groups = config.groups if isinstance(config.groups, int) else 1
    t = group_size * max(groups, config.conventions.loss_groups(groups, 0))
    params = {name: rng.standard_normal(shape)
              for name, shape in snp.switch_layer.shapes(d, f, config).items()}
    padding = rng.random(t) < 0.3 if rng.random() < 0.6 else None
    training = bool(rng.random() < 0.5)
    noise = draw_noise(rng, config if training else outside_training(config), t, d, f)
    return params, rng.standard_normal((t, d)), padding, noise, training


def check_layer(rng, config, group_size=None, f=3):
    """Compare every gradient of a random layer with the complex step."""
    params, x, padding, noise, training = problem(rng, config, group_size, d=2, f=f)
    check_gradients(params, x, config, rng, padding=padding, noise=noise, training=training)
