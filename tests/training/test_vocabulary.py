"""Text to ids and back."""

import numpy as np
import pytest

from switch_np.training.vocabulary import (
    END, FIRST_SENTINEL, PAD, SENTINELS, VOCAB_SIZE, decode, encode)
from switch_np.transformer.cross_entropy import IGNORED


def test_vocabulary():
    assert VOCAB_SIZE == 256 + 2 + SENTINELS == 290
    assert encode(bytes(range(256))).tolist() == list(range(256))
    assert decode(encode("naïve <0>\t")) == "naïve <0>\t"
    ids = [PAD, 97, FIRST_SENTINEL, 98, VOCAB_SIZE - 1, END, IGNORED]
    assert decode(np.array(ids)) == "a<0>b<31>"
    assert decode(np.array([195, FIRST_SENTINEL, 169])) == "\ufffd<0>\ufffd"
    with pytest.raises(ValueError, match=r"ids must lie in -100 \.\. 289, got 290"):
        decode(np.array([VOCAB_SIZE]))
