"""A small task to fine-tune on: read the name of a character, answer with its category.

"latin small letter e with acute" is Ll, a lower-case letter; "thai digit four" is Nd, a decimal
digit. The words of a name give much of the answer away, so what is learnt carries over to other
names; but a few hundred pairs can also be learnt by heart, at the cost of the rest. Names and
categories are those of Unicode 3.2, which every CPython carries beside the newest, so every Python
has the same pairs. Ideographs and Hangul syllables are left out: their names follow a rule.
"""

import hashlib
import sys
from functools import lru_cache
from unicodedata import ucd_3_2_0

from switch_np.operations import check
from switch_np.training.pairs import Pair, PairCorpus

NAMED_BY_RULE = ("CJK ", "HANGUL SYLLABLE")
MAX_LENGTH = 40          # letters of a name


def load(train: int = 384, held_out: int = 384) -> PairCorpus:
    """Return the first `held_out` pairs to be held out, and the next `train` to train on.

    >>> load(3, 1).train[0]
    Pair(source=b'yi syllable jyr', target=b'Lo')
    """
    check.integer("train", train, 1)
    check.integer("held_out", held_out, 1)
    pairs = all_pairs()
    if train + held_out > len(pairs):
        raise ValueError(f"train and held_out must be at most {len(pairs)} together, got "
                         f"{train + held_out}")
    return PairCorpus(pairs[held_out:held_out + train], pairs[:held_out])


@lru_cache
def all_pairs() -> tuple[Pair, ...]:
    """Return all pairs, ordered by a hash of the name."""
    pairs = []
    for character in map(chr, range(sys.maxunicode + 1)):
        name = ucd_3_2_0.name(character, "")
        if name and len(name) <= MAX_LENGTH and not name.startswith(NAMED_BY_RULE):
            pairs.append(Pair(name.lower().encode(), ucd_3_2_0.category(character).encode()))
    return tuple(sorted(pairs, key=lambda pair: hashlib.sha256(pair.source).digest()))
