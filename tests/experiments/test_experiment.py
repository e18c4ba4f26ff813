"""Arms and experiments are checked."""

import pytest

from experiments.tiny import ARM, MODEL, STUDENT, copy_embedding
from switch_np.experiments.experiment import Arm, Experiment


def test_arms_are_checked():
    with pytest.raises(ValueError, match="name must be a letter and then"):
        Arm("a/b", MODEL)
    with pytest.raises(ValueError, match="got 'tiny' twice"):
        Experiment("x", (ARM, ARM), None, None)
    with pytest.raises(ValueError, match="needs must name an arm that comes before 'student'"):
        Experiment("x", (STUDENT, ARM), None, None)
    with pytest.raises(ValueError, match="needs must name an arm if begin is given, got ''"):
        Arm("alone", MODEL, begin=copy_embedding)
