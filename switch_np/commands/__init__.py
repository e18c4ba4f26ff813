"""One file per command of `python -m switch_np`."""
