"""What the tests of experiments share: arms that train in a moment, and made-up results."""

from dataclasses import replace

import numpy as np

from switch_np.experiments import results, speed
from switch_np.experiments.experiment import Arm
from switch_np.switch.config import SwitchConfig
from switch_np.training.corpus import Corpus
from switch_np.training.train_config import TrainConfig
from switch_np.transformer.model_config import ModelConfig

TEXT = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 60, np.uint8)
CORPUS = Corpus(TEXT[:2000], TEXT[2000:])
MODEL = ModelConfig(d_model=8, d_ff=16, num_heads=2, d_kv=4, num_layers=2,
                    switch=SwitchConfig(num_experts=4))
TRAIN = TrainConfig(steps=24, batch_size=3, seq_len=12, warmup=2)


def text():
    return CORPUS


def copy_embedding(run, source):
    run.params["embedding"]["table"][:] = source.params["embedding"]["table"]


ARM = Arm("tiny", MODEL, TRAIN, corpus=text)
STUDENT = Arm("student", replace(MODEL, switch_every=0), TRAIN, needs="tiny", corpus=text,
              begin=copy_embedding)

MORE = {"table2": ("router_flips", "ties", "gate_error", "flips", "logit"),
        "table3": (*(f"stream_{n}" for n in range(13)), *(
            f"{part}_{n}" for part in ("experts", "added") for n in range(1, 12, 2))),
        "table4": ("neg_log_perplexity", "right", "train_neg_log_perplexity"),
        "balance": ("busiest", "unserved", "whole", "prefixes", "one_by_one")}


def fake(experiment, seeds=(0, 1, 2)):
    """Results of the right form: arms in the order of their quality, dense the worst."""
    rng, rows, curves, times = np.random.default_rng(0), [], [], []
    more = dict.fromkeys(MORE.get(experiment.name, ()), 0.5)
    for place, arm in enumerate(experiment.arms):
        for seed in seeds:
            bits = 2.5 - 0.05 * place + 0.01 * rng.random()
            row = {"arm": arm.name, "seed": seed, "dropped": 0.1, "bits_per_byte": bits,
                   "nats": bits, **more}
            rows.append(row | {"steps": 50, "params": 1000 * 2 ** place})
            curves += [row | {"step": step, "bits_per_byte": bits + 5 / step - 0.1,
                              "nats": bits + 5 / step - 0.1}
                       for step in range(10, 51, 10)]
        times += [{"size": size, "layout": layout, "arm": arm.name, "ratio": 1 + 0.1 * place,
                   "half": 0.01, "rounds": 9}
                  for layout in (speed.LAYOUTS if place else ("both",))
                  for size in (("toy", "wide") if experiment.name == "table1" else ("toy",))]
    return results.Results(results.table(rows), results.table(curves),
                           results.table(times if experiment.speed else []))
