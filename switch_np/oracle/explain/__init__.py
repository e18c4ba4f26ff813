"""What explains wrong numbers: each suspect is computed and compared with the kernel's numbers.

In reading order:

causes              does a suspect explain the numbers, and contradict none that are right?
expert_rows         the truth row by row: what each row of an expert adds to the gradients
algebra             a gradient's terms missing or scaled; a tensor times a factor, or one per expert
mixtures            y with other gates, biases or a wrong shared expert
rows                rows lost, moved, transposed or misread; dropped tokens that are not dropped
partial_sums        gradients that sum over the wrong rows
balance_losses      other balance losses than E Σ f P
other_choices       the same scores, other experts: groups, biases and precision gone wrong
other_conventions   the same problem under one other convention, capacity or weight layout
museum              known bugs, planted into a copy of the layer
wording             terms, factors and blocks of a tensor in words
diagnosis           all suspects in turn; the simplest that fit are named

Imported by `judge/compare.py` and `prove/score.py`.
"""
