"""Is a kernel right? First its choices, then every tensor in units of rounding error.

In reading order:

choices             a choice of experts: the same, a legal flip at a near tie, or wrong
tensor              one tensor: its error in units of sigma, and where it is largest
unreported_choices  choices that the kernel did not report: inferred from y, or allowed for
judge_choices       judge a kernel's choices, then recompute the truth with them
kernel_tensors      a kernel's tensors in float64 and in the right shape
of_rank             one rank's tensors and choices among those of all ranks
blind_spots         terms of a gradient whose absence would pass
report              what was found, in words and in values
compare             all of it: `compare` returns a report, `assert_matches` raises it

Imported by `prove/`, `vectors/` and `switch_np.oracle`.
"""
