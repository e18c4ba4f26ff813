"""The learning rates of `memory`: each model at four rates, on a seed that is not judged."""

from switch_np.experiments import memory, rates

RATES = (0.01, 0.03, 0.1, 0.3)

EXPERIMENT = rates.sweep("memory-rates", tuple(
    memory.arm(rates.name_of(name, rate), name, rate, label=f"{label}, {rate:g}")
    for name, (label, _) in memory.MODELS.items() for rate in RATES), "nats", "nats per answer")
