"""The capacity under each of its options."""

import switch_np as snp


def test_capacity_follows_equation_3_and_its_options():
    capacity = {
        "floor": (snp.SwitchConfig(num_experts=4, capacity_factor=1.25), 10, 3),
        "minimum": (snp.SwitchConfig(num_experts=4, min_capacity=4), 10, 4),
        "absolute": (snp.SwitchConfig(num_experts=4, capacity=7), 10, 7),
        "none": (snp.SwitchConfig(num_experts=4, capacity_factor=None), 10, None),
        "per choice": (snp.SwitchConfig(num_experts=4, top_k=2, capacity_factor=1.0,
                                        capacity_per_choice=True), 10, 5),
        "evaluation": (snp.SwitchConfig(num_experts=4, eval_capacity_factor=2.0), 10, 5)}
    for name, (config, tokens, want) in capacity.items():
        assert config.expert_capacity(tokens) == want, name
    assert capacity["evaluation"][0].expert_capacity(10, training=True) == 3
