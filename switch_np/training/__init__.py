"""Text, objectives, optimizers and the loop that trains a model on them.

In reading order:

train_config      the options: which task, how many steps, which rate and precision
corpus            the text: prose that comes with Python, or files of your own
objective         the task "bytes": predict the byte that follows
vocabulary        the ids of text-to-text tasks: 256 bytes and a few that are not text
padded_rows       sequences of unequal length as one array; the decoder's inputs
span_mask         which tokens of a window are dropped
span_corruption   the task "span": T5's pre-training, in which missing spans are filled in
pairs             the task "pairs": fine-tuning on a source and a target
tasks             the three tasks under one interface
unigram           a baseline that ignores the context
optimizer         AdamW, the learning rate's schedule, clipping by the global norm
adafactor         Adafactor, whose second moments take a row and a column per matrix
selective         selective precision: the router in float32, all else in bfloat16
trainer           one step after another; it computes and writes nothing
checkpoint        a run in one .npz file, without pickle

Imported by the commands and the experiments.
"""
