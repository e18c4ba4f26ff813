"""The parameters of a layer: their names and shapes under every convention."""

from switch_np.switch.config import SwitchConfig


def shapes(d_model: int, d_ff: int, config: SwitchConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter, by name.

    >>> list(shapes(8, 16, SwitchConfig(num_experts=4, router_bias=True)))
    ['w_router', 'b_router', 'w_in', 'w_out']
    >>> shapes(6, 8, SwitchConfig.like("hf_deepseek_v3", num_experts=16))["shared_w_in"]
    (6, 8)
    """
    conventions, e, d, f = config.conventions, config.num_experts, d_model, d_ff
    found: dict[str, tuple[int, ...]] = {"w_router": (d, e)}
    if config.router_bias:
        found["b_router"] = (e,)
    found |= {"w_in": (e, d, f), "w_out": (e, f, d)}
    if conventions.papers:
        return found
    shared, wide = conventions.shared_experts > 0, conventions.shared_width
    wide = conventions.shared_experts * f if wide is None else wide
    optional = {
        "w_noise": (conventions.logit_noise == "learned", (d, e)),
        "select_bias": (conventions.select_bias, (e,)),
        "balance_f": (conventions.balance_counts == "given", (e,)),
        "w_gate": (conventions.expert_gated, (e, d, f)),
        "b_in": (conventions.expert_biases, (e, f)),
        "b_gate": (conventions.expert_biases and conventions.expert_gated, (e, f)),
        "b_out": (conventions.expert_biases, (e, d)),
        "hidden_scale": (conventions.expert_hidden_scale, (e, f)),
        "shared_w_in": (shared, (d, wide)),
        "shared_w_gate": (shared and conventions.expert_gated, (d, wide)),
        "shared_w_out": (shared, (wide, d)),
        "shared_w_router": (conventions.shared_gate, (d, 1)),
        "shared_b_out": (conventions.shared_bias, (d,)),
    }
    return found | {name: shape for name, (present, shape) in optional.items() if present}
