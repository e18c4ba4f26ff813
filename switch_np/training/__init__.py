"""Training a model: the data, the optimizers, the loop and its checkpoints, in reading order.

    corpus             text as bytes, a part of it held out; the byte-bigram baseline
    objective          the task "lm": predict the next byte
    vocabulary         token ids of the other two tasks: the bytes, PAD, END and sentinels
    span_corruption    the task "span": fill in the spans that T5 drops at random
    pairs              the task "pairs": read a source, write its target
    optimizer          AdamW, the learning-rate schedule, gradient clipping
    adafactor          Adafactor
    selective          the precision that parameters compute in, selective precision among them
    train_config       the options of training
    tasks              the three tasks as the trainer sees them; the unigram baseline
    checkpoint         arrays and state in one .npz
    trainer            start, advance, evaluate, save and load a run

It imports operations, conventions, transformer and `switch_np.model`; commands and experiments
import it.
"""
