"""The layer and the model cut over many ranks: section 5 of the paper. In reading order.

`words` (bfloat16 as 16 bits), `communicator` (what a rank asks of the others: one exchange), and
its two engines, `simulated` (all ranks in one process) and `mpi`. The collectives, each with its
adjoint: `all_to_all`, `all_gather` (and reduce-scatter), `all_reduce`, `broadcast` (and reduce).

The layout: `mesh` (n times m ranks), `shards` (which part of every array a rank holds). The layer:
`route` (which rows go where), `mixture` (equation 2 over ranks), `losses`, `layer`. And `model` and
`trainer` around it; `formulas` counts what a step sends by the paper's formulas.

Every collective is an exchange, in which each rank gives rows to each, with a copy before it or a
sum after it. The adjoint of an exchange is the exchange back, and that of a copy is a sum; so each
collective's adjoint is again one. Sums are taken in the order of the ranks: both engines give the
same bits, and so does a second run.

Modules here may import all but `commands`; `mpi` alone needs mpi4py (`pip install -e ".[mpi]"`).

With n ranks the numbers are those of one process with `groups=n`:

>>> import numpy as np
>>> from switch_np import SwitchConfig, switch_layer
>>> from switch_np.parallel import layer, shards, simulated
>>> from switch_np.parallel.mesh import lay_out
>>> rng, config = np.random.default_rng(0), SwitchConfig(num_experts=4, groups=4)
>>> params, x = switch_layer.init(rng, 16, 64, config), rng.standard_normal((48, 16))
>>> def work(world):
...     mesh = lay_out(world, data=4)
...     out, _ = layer.forward(shards.cut(params, mesh), shards.part(x, mesh.data), config, mesh)
...     return out.y, world.traffic.bytes["all_to_all of rows"]
>>> y, sent = zip(*simulated.run(4, work))
>>> alone, _ = switch_layer.forward(params, x, config)
>>> bool(abs(np.concatenate(y) - alone.y).max() < 1e-14), sent
(True, (1024, 768, 1024, 768))
"""
