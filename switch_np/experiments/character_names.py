"""A small task to fine-tune on: read the name of a character, answer with its category.

"latin small letter e with acute" is Ll, a lower-case letter; "thai digit four" is Nd, a decimal
digit. The words give much of it away, so there is something to learn that holds beyond the pairs
that were seen; scripts and symbols that were not seen remain, so a few hundred pairs can be learnt
by heart at the cost of the others.

The names and categories are those of Unicode 3.2, which every CPython carries beside the newest
(`unicodedata.ucd_3_2_0`, for internationalized domain names): the pairs are the same in all its
versions. Left out are the ideographs and the Hangul syllables, whose names are made by a rule.
"""

from __future__ import annotations

import hashlib
import sys
from functools import lru_cache

from switch_np.operations import check
from switch_np.training.pairs import Pair, PairCorpus

BY_RULE = ("CJK ", "HANGUL SYLLABLE")
LONGEST = 40             # letters of a name


def load(train: int = 384, held_out: int = 384) -> PairCorpus:
    """Return so many pairs to train on and others to be held out, in an order by chance.

    Examples
    --------
    >>> corpus = load(3, 1)
    >>> corpus.train[0]
    Pair(source=b'yi syllable jyr', target=b'Lo')
    """
    check.integer("train", train, 1)
    check.integer("held_out", held_out, 1)
    found = every()
    if train + held_out > len(found):
        raise ValueError(f"train and held_out must be at most {len(found)} together, got "
                         f"{train + held_out}")
    return PairCorpus(found[held_out:held_out + train], found[:held_out])


@lru_cache
def every() -> tuple[Pair, ...]:
    """Return all pairs, ordered by a hash of the name."""
    from unicodedata import ucd_3_2_0

    made = []
    for character in map(chr, range(sys.maxunicode + 1)):
        name = ucd_3_2_0.name(character, "")
        if name and len(name) <= LONGEST and not name.startswith(BY_RULE):
            made.append(Pair(name.lower().encode(), ucd_3_2_0.category(character).encode()))
    return tuple(sorted(made, key=lambda pair: hashlib.sha256(pair.source).digest()))
