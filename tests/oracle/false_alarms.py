"""Run right kernels over random problems, and count the verdicts.

    python tests/oracle/false_alarms.py --problems 2000

Needs torch and jax. A verdict other than "pass" or "out of range" is a false alarm, and makes the
exit status 1.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from oracle.foreign_kernels import KERNELS

from switch_np import SwitchConfig, oracle

SHAPES = ((16, 8, 12, 2), (33, 12, 8, 4), (48, 16, 32, 8), (96, 32, 24, 4), (64, 24, 64, 16),
          (7, 5, 3, 3))
PRECISIONS = ("float32", "bfloat16", "float16")


def problem(seed, precision):
    """Return a random problem: sizes, k, capacity, padding, logits and upstream all vary."""
    rng = np.random.default_rng([seed, 7])
    tokens, d_model, d_ff, experts = SHAPES[rng.integers(len(SHAPES))]
    config = SwitchConfig(
        num_experts=experts, top_k=int(rng.integers(1, min(experts, 3) + 1)),
        capacity_factor=[0.5, 1.0, 1.25, None][rng.integers(4)])
    asked = oracle.draw(
        config, tokens, d_model, d_ff, seed=seed, scale=10.0 ** rng.uniform(-6, 3),
        padding=int(rng.integers(0, 4)), unused=int(rng.integers(2)) if experts > 3 else 0,
        precision=precision)
    asked["params"]["w_router"] *= 2 ** int(rng.integers(0, 5))
    return asked


def judge(kernel, asked, precision):
    """Return the report on a kernel's results, all of them handed in."""
    got = kernel(asked, precision)
    ref = oracle.reference(**asked)
    return oracle.compare(ref, y=got["y"], balance_loss=got["balance_loss"], z_loss=got["z_loss"],
                          grads=got["grads"], expert=got["expert"], kept=got["kept"],
                          precision=precision)


def run(problems, first=0, say=lambda text: None):
    """Return counts by verdict, and the worst errors by tensor and precision, in sigmas."""
    verdicts, worst = Counter(), {}
    for number in range(first, first + problems):
        precision = PRECISIONS[number % 3]
        name, kernel = list(KERNELS.items())[number // 3 % 3]
        report = judge(kernel, problem(number, precision), precision)
        verdicts[name, precision, report.verdict] += 1
        for tensor in report.tensors.values():
            key = precision, tensor.name
            worst[key] = tuple(map(max, worst.get(key, (0, 0)), (tensor.worst, tensor.rms)))
        if report.verdict not in ("pass", "out of range"):
            say(f"problem {number}, {name}:\n{report}")
    return verdicts, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    verdicts, worst = run(options.problems, options.first, print)
    for key, (largest, rms) in sorted(worst.items()):
        print(f"{key[0]:9} {key[1]:13} worst {largest:6.2f} sigma, block rms {rms:5.2f}")
    for key, count in sorted(verdicts.items()):
        print(f"{count:5}  {', '.join(key)}")
    return int(any(key[2] not in ("pass", "out of range") for key in verdicts))


if __name__ == "__main__":
    sys.exit(main())
