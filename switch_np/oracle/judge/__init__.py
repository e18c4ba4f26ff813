"""Is a kernel right? Its choices first, then every tensor in units of rounding error.

In reading order:

choices            a choice of experts: the same, a legal flip at a near tie, or wrong
tensor             one tensor: its error in units of sigma, and where it is largest
near_ties          how far legal flips move each number if a kernel does not tell its choices
inferred_choices   the choices that a kernel did not tell, from its y
judge_choices      judge a kernel's choices, then recompute the truth with them
kernel_tensors     the tensors that were handed in, in float64 and in the right shape
blind_spots        terms of a gradient whose absence would pass
compare            all of it: `compare` returns a report, `assert_matches` raises one

Imported by `prove/`, `vectors/` and `switch_np.oracle`.
"""
