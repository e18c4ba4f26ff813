"""What each rank of an MPI run does in `test_mpi`."""

import os
import signal
import sys
import time

import numpy as np
from parallel import collective_cases as cases, layer_cases, model_cases

from switch_np.operations import tree
from switch_np.parallel import all_reduce, mpi, simulated


def same(name, work, world):
    """Compare what this rank computes with what it does as a thread among threads."""
    found, wanted = work(world), simulated.run(world.size, work)[world.rank]
    for a, b in zip(leaves(found), leaves(wanted), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes(), name


def leaves(value):
    if isinstance(value, dict):
        value = tree.flatten(value).values()
    if isinstance(value, tuple | list | type({}.values())):
        return [leaf for each in value for leaf in leaves(each)]
    return [np.asarray(value)]


def steps(comm):
    losses, whole, held_out = model_cases.steps(comm, (comm.size, 1))
    return losses, whole.params, whole.moments, held_out


def bits(world):
    for name in cases.CASES:
        same(name, lambda comm, name=name: cases.both_ways(name, comm), world)
    for name, config in layer_cases.CONFIGS.items():
        arrays = layer_cases.problem(config)
        for shape in layer_cases.MESHES:
            if np.prod(shape) == world.size:
                same(name, lambda comm, shape=shape, config=config, arrays=arrays: (
                    layer_cases.rank_work(comm, config, arrays, shape)), world)
    for name, config in model_cases.CONFIGS.items():
        params, batch = model_cases.problem(config)
        same(name, lambda comm, config=config, params=params, batch=batch: model_cases.one_step(
            comm, config, params, batch, (comm.size, 1)), world)
    same("steps", steps, world)
    print("same bits", flush=True)


def end(world, how):
    """End one rank after the first all-reduce, while the others wait in the second."""
    all_reduce.forward(np.ones(4), world, "losses")
    if world.rank == 1:
        if how == "error":
            raise ZeroDivisionError("of its own")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    all_reduce.forward(np.ones(4), world, "grads")


if __name__ == "__main__":
    rank = mpi.connect(limit=1.0)
    bits(rank) if sys.argv[1] == "bits" else end(rank, sys.argv[1])
