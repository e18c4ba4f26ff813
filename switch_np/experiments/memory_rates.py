"""The learning rates of `memory`: each model at three rates, on a seed that is not judged.

Other capacity factors take over the rate of their model.
"""

from switch_np.experiments import memory, rates

RATES = (0.01, 0.03, 0.1)
TRIED = (*(f"experts-{count}" for count in memory.EXPERTS), "moe-2.0")

EXPERIMENT = rates.sweep("memory-rates", tuple(
    memory.arm(rates.name_of(name, rate), name, rate, label=f"{memory.MODELS[name][0]}, {rate:g}")
    for name in TRIED for rate in RATES), "nats", "nats per answer")
