"""The command line, `python -m switch_np COMMAND`: a file per command, and what they share.

Each command has `add_arguments(parser)` and `run(args)`, which returns the exit status. In reading
order:

- `train`: train a model on text. Its options and the configs they make are in `train_options`,
  what it shows on screen and in pictures in `progress`, its folder `runs/NAME/` in `run_folder`;
  `ranks`: one process or many.
- `sample`: let a trained model write; `generated_text` turns token ids into readable text.
- `table`: run one of the paper's tables at toy scale.
- `vectors`, `verify`: write the oracle's test vectors; judge what a program computed for one.
- `presets`, `equations`: how other libraries differ; where the code computes each equation.
- `sizes`: parameters and operations of the paper's large models.
- `terminal`: the progress line and signals.

`switch_np.__main__` imports a command when it is called; nothing else but notebooks imports these.
"""
