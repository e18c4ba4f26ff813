"""The bytes that ranks count in a step of training are those of the paper's formulas."""

from dataclasses import replace

import numpy as np
import pytest
from parallel import model_cases as cases
from training.small_run import CORPUS

from switch_np.parallel import formulas, simulated, trainer
from switch_np.parallel.mesh import lay_out
from switch_np.training import trainer as alone

OF_THE_PAPER = ("rows", "outputs", "d_outputs", "d_rows", "gradients")
LAYOUTS = [("data", (4, 1, "replicated")), ("model", (1, 4)),
           ("model and data", (2, 2, "replicated")), ("expert and data", (4, 1)),
           ("expert, model and data", (2, 2))]


def sent(shape, layout, dtype="float64", word=8, **options):
    """Return the bytes of all ranks in a step: of the rows and gradients, all, and the formula."""
    config = replace(cases.LM, switch=replace(cases.SWITCH, layout=layout,
                                              capacity_factor=2.0), **options)
    run = alone.start(config, replace(cases.SMALL, dtype=dtype), CORPUS)

    def work(world):
        mesh = lay_out(world, *shape)
        part, traffic = trainer.cut(run, mesh), world.traffic.bytes
        traffic.clear()
        loss, _ = trainer.advance(part, CORPUS, mesh)
        return (sum(n for name, n in traffic.items() if name.split()[-1] in OF_THE_PAPER),
                traffic.total(), formulas.step([plan.slots for plan in loss.plans], config.d_model,
                                               part.params, mesh, word))

    return np.sum(simulated.run(4, work), axis=0)


@pytest.mark.parametrize("shape", [shape for _, shape in LAYOUTS], ids=dict(LAYOUTS))
def test_counted_bytes_are_those_of_the_formulas(shape):
    counted, total, formula = sent(shape, "buffers")
    assert counted == formula > 0
    assert counted <= total < 1.4 * counted             # what the paper leaves out
    packed, _, _ = sent(shape, "packed")
    assert packed < formula or shape == (4, 1, "replicated")      # where no row travels


@pytest.mark.parametrize("dtype, word", [("float32", 4), ("selective", 2), ("bfloat16", 2)])
def test_so_are_those_of_every_precision_and_of_attention(dtype, word):
    counted, _, formula = sent((2, 2), "buffers", dtype, word, switch_attention=True)
    assert counted == formula
