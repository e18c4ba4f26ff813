"""What a student copies, and how it takes a step."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.tiny import CORPUS, MODEL, TRAIN
from switch_np.experiments import distillation, toy
from switch_np.operations import tree
from switch_np.training import trainer
from switch_np.training.adafactor import Adafactor


@pytest.mark.parametrize("options", [{}, {"optimizer": Adafactor()}, {"dtype": "bfloat16"}])
def test_a_step_with_no_share_of_the_teacher_is_the_trainer_s(options):
    train = replace(TRAIN, **options)
    teacher = trainer.start(MODEL, train, CORPUS)
    for share, same in ((0.0, True), (0.25, False)):
        mine, theirs = (trainer.start(toy.dense(MODEL), train, CORPUS) for _ in range(2))
        for _ in range(3):
            loss, norm = distillation.advance(mine, CORPUS, teacher, share)
            want, want_norm = trainer.advance(theirs, CORPUS)
        if same:
            assert (mine.step, norm, loss.cross_entropy) == (3, want_norm, want.cross_entropy)
        pairs = zip(tree.flatten(mine.params).values(), tree.flatten(theirs.params).values())
        assert all((one == other).all() for one, other in pairs) is same
        assert mine.seconds > 0


def test_a_student_that_diverges_says_so_and_stays_as_it_was():
    teacher, student = (trainer.start(MODEL, TRAIN, CORPUS) for _ in range(2))
    student.params["decoder"]["0"]["feed_forward"]["w_in"][0, 0] = np.nan
    before = tree.apply(np.copy, student.params)
    with pytest.raises(FloatingPointError, match="not finite at step 1"):
        distillation.advance(student, CORPUS, teacher, 0.25)
    tree.apply(np.testing.assert_array_equal, student.params, before)


def test_a_student_copies_all_but_the_experts():
    teacher = trainer.start(MODEL, replace(TRAIN, seed=1), CORPUS)
    student, fresh = (trainer.start(toy.dense(MODEL), TRAIN, CORPUS) for _ in range(2))
    distillation.copy_weights(student, teacher)
    taught, before = tree.flatten(teacher.params), tree.flatten(fresh.params)
    for name, value in tree.flatten(student.params).items():
        source = before if name.startswith("decoder.1.feed_forward.") else taught
        np.testing.assert_array_equal(value, source[name], name)
