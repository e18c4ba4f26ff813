"""The command line: `python -m switch_np COMMAND`, one file per command.

train         train a model and leave numbers, pictures and a checkpoint
sample        let a trained model write
table         run one of the paper's tables at toy scale
vectors       write the oracle's test vectors for any language
verify        judge what a program made of a vector
presets       what other libraries do differently
equations     from the paper's equations to the lines of the code, and back

What they share:

environment   the threads and memory settings, set before NumPy is imported
options       the options of `train`, and the configs they make
run_folder    the folder `runs/NAME/`: what is in it, and how it is found
progress      the line that moves, the pictures, the closing words
writing       what a model writes, for people to read
terminal      help texts, and the signals that ask to stop

Nothing imports it but `__main__.py` and notebooks.
"""
