"""Run right kernels over random problems, and count the verdicts.

    python tests/oracle/judge/false_alarms.py --problems 3000

Needs torch and jax. A verdict other than "pass" or "out of range" is a false alarm, and makes the
exit status 1.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from oracle.problems import judged
from oracle.truth.foreign_kernels import KERNELS

from switch_np import SwitchConfig, oracle
from switch_np.operations.precision import round_to

SHAPES = ((16, 8, 12, 4), (33, 12, 8, 4), (48, 16, 32, 8), (96, 32, 24, 4), (64, 24, 64, 16),
          (7, 5, 3, 4))
PRECISIONS = ("float32", "bfloat16", "float16", "mixed")
IN_FLOAT32 = dict.fromkeys(("balance_loss", "z_loss", "choice"), "float32")
LEFT_OUT = {"padding_routing": "left_out", "balance_padding": "mask_valid"}
LAYERS = ("the paper", "Mixtral", "DeepSeek-V3", "GPT-OSS", "Qwen2-MoE")


def config_of(layer, experts, rng):
    """Return a config of one of the layers, with random k and capacity."""
    factor = [0.5, 1.0, 1.25, None][rng.integers(4)]
    if layer == "the paper":
        return SwitchConfig(num_experts=experts, top_k=int(rng.integers(1, 4)),
                            capacity_factor=factor)
    if layer == "Mixtral":
        return SwitchConfig.like("hf_mixtral", num_experts=experts, capacity_factor=factor,
                                 **LEFT_OUT)
    if layer == "GPT-OSS":
        return SwitchConfig.like(
            "hf_mixtral", num_experts=experts, capacity_factor=factor, router_bias=True,
            expert_biases=True, expert_limit=[0.1, 0.7, 7.0][rng.integers(3)],
            expert_limit_at=["input", "output"][rng.integers(2)], expert_silu_factor=1.702,
            expert_linear_offset=float(rng.integers(2)), **LEFT_OUT)
    if layer == "Qwen2-MoE":
        return SwitchConfig.like(
            "hf_mixtral", num_experts=experts, capacity_factor=factor, renorm="none",
            shared_experts=1, shared_width=int(rng.integers(1, 40)), shared_gate=True,
            shared_average=bool(rng.integers(2)), **LEFT_OUT)
    return SwitchConfig.like(
        "hf_deepseek_v3", num_experts=experts, top_k=2, select_groups=2, select_groups_kept=1,
        router_bias=True, capacity_factor=factor, **LEFT_OUT)


def random_problem(seed, precision, layer="the paper"):
    """Return a random problem: sizes, k, capacity, padding, logits and upstream all vary."""
    rng = np.random.default_rng([seed, 7])
    tokens, d_model, d_ff, experts = SHAPES[rng.integers(len(SHAPES))]
    config = config_of(layer, experts, rng)
    rounded = "bfloat16" if precision == "mixed" else precision
    asked = oracle.draw(
        config, tokens, d_model, d_ff, seed=seed, scale=10.0 ** rng.uniform(-6, 3),
        padding=int(rng.integers(0, 4)), precision=rounded)
    params = asked["params"]
    params["w_router"] *= 2 ** int(rng.integers(0, 5))
    if layer == "DeepSeek-V3":
        params["b_router"] = round_to(params["b_router"] - rng.uniform(0, 15), rounded)
        params["select_bias"] = round_to(params["select_bias"] + rng.uniform(0, 15), rounded)
    return asked


def judge(kernel, asked, precision):
    """Return the report on a kernel's results, all of them handed in."""
    got = kernel(asked, precision)
    if precision != "mixed":
        return judged(oracle.reference(**asked), got | {"precision": precision})
    half = got["y"].detach().new_tensor(asked["x"])               # so that the rest is bfloat16
    return judged(oracle.reference(**asked | {"x": half}), got | {"precision": IN_FLOAT32})


def cases():
    """Yield every kernel with every precision and layer that it knows."""
    for name, kernel in KERNELS.items():
        for precision in PRECISIONS:
            for layer in LAYERS:
                if name != "jax" or (layer == "the paper" and precision != "mixed"):
                    yield name, kernel, precision, layer


def run(problems, first=0, say=lambda text: None):
    """Return counts by verdict, and the worst errors by tensor and precision, in sigmas."""
    verdicts, worst, every = Counter(), {}, list(cases())
    for number in range(first, first + problems):
        name, kernel, precision, layer = every[number % len(every)]
        report = judge(kernel, random_problem(number, precision, layer), precision)
        verdicts[name, layer, precision, report.verdict] += 1
        for tensor in report.tensors.values():
            key = precision, tensor.name
            worst[key] = tuple(map(max, worst.get(key, (0, 0)), (tensor.worst, tensor.rms)))
        if report.verdict not in ("pass", "out of range"):
            say(f"problem {number}, {name}, {layer}, {precision}:\n{report}")
    return verdicts, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("--problems", 3000), ("--first", 0)):
        parser.add_argument(name, type=int, default=default)
    verdicts, worst = run(**vars(parser.parse_args()), say=print)
    for key, (largest, rms) in sorted(worst.items()):
        print(f"{key[0]:9} {key[1]:13} worst {largest:6.2f} sigma, block rms {rms:5.2f}")
    for key, count in sorted(verdicts.items()):
        print(f"{count:5}  {', '.join(key)}")
    return int(any(key[3] not in ("pass", "out of range") for key in verdicts))


if __name__ == "__main__":
    sys.exit(main())
