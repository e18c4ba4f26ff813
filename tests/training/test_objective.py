"""Windows of text reach all of it; held-out text is read once."""

import numpy as np

from switch_np.training import objective


def test_held_out_text_is_read_once_and_in_full():
    data = np.arange(200, dtype=np.uint8)
    batches = list(objective.held_out(data, 4, 13))
    read = np.concatenate([batch.targets.ravel() for batch in batches])
    assert read.tolist() == list(range(1, 1 + 199 // 13 * 13))


def test_next_byte_reaches_the_whole_text():
    data = np.arange(20, dtype=np.uint8)
    batch = objective.next_byte(np.random.default_rng(0), data, 500, 3)
    assert batch.inputs.min() == 0 and batch.targets.max() == 19
