"""Problems and their answers: drawn at random, or written to files for tests in any language.

In reading order:

draw          random problems in which no term of any gradient is zero
exact         problems whose every bit is known, in any precision and order of summation
cases         the named problems of the vector set, and the bug that each is for
files         write the cases with answers and tolerances; judge what a program answered

Imported by `switch_np.oracle`, the commands `vectors` and `verify`.
"""

from switch_np.oracle.vectors.files import load, pack, read, verify, write

__all__ = ["load", "pack", "read", "verify", "write"]
