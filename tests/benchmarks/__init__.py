"""How fast `switch_np` is: against its bare matrix products, minimal NumPy and other libraries.

Run `python tests/benchmarks` from the root of the repository. In reading order:

- `problems`: the sizes, a row each, and the random problem of each size
- `subjects`: who is timed, with how many threads, a row each
- `ours`: our layer, training step and generation
- `bare_products`: the matrix products alone, the limit
- `least_numpy`: the least NumPy that computes the layer
- `torch_peer`, `jax_peer`, `hugging_face_peer`: the same in other libraries
- `timing`: the process of each subject, and whose turn it is
- `compare`: layer, training step or generation, subject by subject
- `breakdown`: the training step, operation by operation
- `memory`: the layer's peak memory
- `__main__`: the command

Another size is another row; another peer is a function from a size to a `Subject`, and a row.
Nothing imports this folder but its own tests.
"""
