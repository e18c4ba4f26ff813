"""What explains wrong numbers: each suspect is computed and held against what came.

In reading order:

causes              does a suspect explain what came, and contradict nothing that is right?
algebra             sums of a gradient's terms with factors; factors, also one per expert
rows                rows lost, moved or transposed; outputs with other gates
other_conventions   the same problem under one other convention, capacity or weight layout
museum              known bugs, planted into a copy of the layer
wording             what was not judged or not seen, in words
diagnosis           all suspects in turn; the simplest that fit are named

Imported by `judge/compare.py` and `prove/score.py`.
"""
