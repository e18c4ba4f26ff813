"""The layer over ranks: the numbers of one process with groups, in every layout of figure 9."""

from dataclasses import replace

import numpy as np
import pytest
from parallel.layer_cases import COEFS, CONFIGS, MESHES, one_process, over_ranks, problem

import switch_np as snp
from switch_np.operations import gradcheck
from switch_np.parallel import all_reduce, layer, losses, mixture, route, shards, simulated
from switch_np.parallel.mesh import lay_out
from switch_np.switch import balance_loss
from switch_np.training import selective

TWO = CONFIGS["two choices"]


def agree(found, wanted):
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        gradcheck.compare(name, np.asarray(found[name]), np.asarray(value))


@pytest.mark.parametrize("shape", MESHES)
@pytest.mark.parametrize("name", CONFIGS)
def test_ranks_compute_what_one_process_computes(name, shape):
    config, arrays = CONFIGS[name], problem(CONFIGS[name])
    wanted, out = one_process(config, *arrays, ranks=shape[0])
    assert out.plan.dropped_fraction > 0 or config.capacity_factor is None or shape[0] < 4
    for layout in ["packed"] if config.capacity_factor is None else ["packed", "buffers"]:
        agree(over_ranks(replace(config, layout=layout), arrays, shape)[0], wanted)


@pytest.mark.parametrize("shape", [(2, 1), (1, 2), (2, 2)])
def test_experts_may_be_replicated(shape):
    arrays = problem(TWO)
    found, sent = over_ranks(TWO, arrays, shape, experts="replicated")
    agree(found, one_process(TWO, *arrays, ranks=shape[0])[0])
    assert not [name for name, count in sent[0].items() if "all_to_all" in name and count]


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("layout", ["packed", "buffers"])
def test_what_is_not_summed_over_ranks_has_the_bits_of_one_process(n, layout):
    config = replace(TWO, layout=layout)
    for padded, names in ((0, ("y", "x", "w_in", "w_out")), (0.2, ("y", "w_in", "w_out"))):
        arrays = problem(config, padded=padded)
        wanted, _ = one_process(config, *arrays, ranks=n)
        for _ in range(2):
            found, _ = over_ranks(config, arrays, (n, 1))
            assert [name for name in names if found[name].tobytes() != wanted[name].tobytes()] == []


@pytest.mark.parametrize("n", [2, 4])
def test_the_balance_loss_may_go_over_the_tokens_of_all(n):
    arrays = params, x, padding, noise, _ = problem(TWO)
    found, _ = over_ranks(TWO, arrays, (n, 1), balance="all")
    wanted, out = one_process(TWO, *arrays, ranks=n)
    plan = replace(out.plan, balance_count=out.plan.balance_count.sum(axis=0, keepdims=True),
                   balance_tokens=out.plan.balance_tokens.sum(keepdims=True))
    loss, cache = balance_loss.forward(out.probs, plan, padding.ravel())
    gradcheck.compare("balance", np.asarray(found["balance"]), np.asarray(loss))
    assert abs(loss - wanted["balance"]) > 1e-3
    cache = cache._replace(group_T=np.zeros_like(cache.group_T))
    d_probs_TE = balance_loss.backward(COEFS[0], cache)
    out, cache = snp.switch_layer.forward(params, x, replace(TWO, groups=n), padding=padding,
                                          noise=noise, training=True)
    d_x, grads = snp.switch_layer.backward(arrays[4], cache, 0.0, COEFS[1], d_probs=d_probs_TE)
    for name, value in {"x": d_x, **grads}.items():
        gradcheck.compare(name, found[name], value)


@pytest.mark.parametrize("shape, options", [
    ((2, 1), {}), pytest.param((2, 2), {}, marks=pytest.mark.thorough),
    ((2, 1), {"balance": "all"}),
    pytest.param((2, 1), {"experts": "replicated"}, marks=pytest.mark.thorough)])
def test_every_gradient_by_complex_step_through_the_mesh(shape, options):
    config = replace(CONFIGS["bias and dropout"], num_experts=2)
    params, x, padding, noise, _ = problem(config, shape=(4, 3), d_model=3, d_ff=2)
    padding[:2, 1:] = False

    def work(world, inputs):
        mesh = lay_out(world, *shape, **options)
        own = shards.parts((inputs["x"], padding, noise), mesh.data)
        out, cache = layer.forward(shards.cut(inputs["params"], mesh), own[0], config, mesh,
                                   padding=own[1], noise=own[2], training=True)
        return mesh, out, cache

    def forward(inputs):
        found = simulated.run(shape[0] * shape[1], lambda world: work(world, inputs)[1])[::shape[1]]
        return (np.concatenate([out.y for out in found]), found[0].balance_loss,
                found[0].z_loss), inputs

    def backward(d_y, d_balance, d_z, inputs):
        def both(world):
            mesh, _, cache = work(world, inputs)
            d_x, grads = layer.backward(shards.part(d_y, mesh.data), cache, mesh, float(d_balance),
                                        float(d_z))
            return d_x, shards.join(grads, mesh)

        found = simulated.run(shape[0] * shape[1], both)
        return {"x": np.concatenate([d_x for d_x, _ in found[::shape[1]]]), "params": found[0][1]}

    gradcheck.check_backward(forward, backward, {"x": x, "params": params},
                             np.random.default_rng(3))


@pytest.mark.parametrize("layout", ["packed", "buffers"])
def test_selective_precision_travels_in_half_the_bytes_and_changes_no_number(layout):
    config = replace(TWO, layout=layout)
    params, x, padding, noise, d_y = problem(config, padded=0)
    whole, x, d_y = (selective.stored({"v": v} if v is not params else v, mode)
                     for v, mode in ((params, "selective"), (x, "bfloat16"), (d_y, "bfloat16")))
    arrays = whole, x["v"], padding, noise, d_y["v"]
    wanted, _ = one_process(config, *arrays, ranks=2)
    found, sent = over_ranks(config, arrays, (2, 1))
    for name in ("y", "x", "w_in", "w_out"):
        assert np.array_equal(found[name], wanted[name]), name
    gradcheck.compare("w_router", found["w_router"], wanted["w_router"])
    _, full = over_ranks(config, problem(config, padded=0), (2, 1))
    for name in ("rows", "outputs", "d_outputs", "d_rows"):
        assert 4 * sent[0][f"all_to_all of {name}"] == full[0][f"all_to_all of {name}"] > 0


def test_bytes_are_those_of_the_papers_formulas():
    """[E, C, d_model] each way, of which a rank keeps its own part; E counts where rows are few."""
    arrays = params, x, *_ = problem(TWO, padded=0)
    n, m, d, e = 4, 2, x.shape[-1], TWO.num_experts
    capacity = TWO.expert_capacity(48 // n, training=True)
    _, sent = over_ranks(replace(TWO, layout="buffers"), arrays, (n, m))
    for name in ("rows", "outputs", "d_outputs", "d_rows"):
        assert {each[f"all_to_all of {name}"] for each in sent} == {
            (n - 1) * e // n * capacity * d * 8}
    assert not any("counts" in name for each in sent for name in each)
    for name in ("outputs", "d_rows"):                    # of all rows that come, over m
        assert sum(each[f"{kind} of {name}"] for each in sent
                   for kind in ("reduce_scatter", "all_gather")) == (
            n * 2 * (m - 1) * e * capacity * d * 8)
    router = sum(each[f"{kind} of gradients"] for each in sent
                 for kind in ("reduce_scatter", "all_gather"))
    assert router == m * 2 * (n - 1) * params["w_router"].nbytes
    _, sent = over_ranks(TWO, arrays, (n, m))
    _, out = one_process(TWO, *arrays, ranks=n)
    away = int((out.plan.kept_load * (np.arange(n)[:, None] != np.arange(e) // (e // n))).sum())
    for name in ("rows", "outputs", "d_outputs", "d_rows"):
        assert sum(each[f"all_to_all of {name}"] for each in sent) == m * away * d * 8
    assert {each["all_to_all of counts"] for each in sent} == {(n - 1) * e // n * 8}


def averaged(grads, mesh):
    return {name: value / mesh.data.size for name, value in REDUCE(grads, mesh).items()}


def by_source(expert_TK, *rest):
    plan = FILL(expert_TK, *rest)
    return replace(plan, token=np.arange(len(expert_TK)))


REDUCE, FILL, SUM = shards.reduce, route.fill, all_reduce.forward
MEAN, BACKWARD = losses.Mean, losses.Mean.backward
BUGS = {
    "gradients averaged": (shards, "reduce", averaged),
    "the router's gradient not reduced": (shards, "reduce", lambda grads, mesh: grads),
    "reduced twice": (shards, "reduce", lambda grads, mesh: REDUCE(REDUCE(grads, mesh), mesh)),
    "losses of unequal ranks averaged as if equal": (
        losses, "Mean", lambda part, weight, *rest: MEAN(part, lambda *arguments: 1, *rest)),
    "losses' gradients scaled by the number of ranks": (
        losses.Mean, "backward", lambda self, d_loss, cache: BACKWARD(
            self, d_loss * self.comm.size, cache)),
    "rows by rank, not by expert": (route, "fill", by_source),
    "d_ff not summed": (mixture.all_reduce, "forward",
                        lambda x, comm, what="": x if "rows" in what else SUM(x, comm, what))}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_caught(bug, monkeypatch):
    arrays = problem(TWO)
    wanted, _ = one_process(TWO, *arrays, ranks=2)
    monkeypatch.setattr(*BUGS[bug])
    with pytest.raises(AssertionError, match=r"error|^w_router"):
        agree(over_ranks(TWO, arrays, (2, 2))[0], wanted)


@pytest.mark.parametrize("config, message", [
    (dict(num_experts=3), "num_experts must be a multiple of the 2 ranks .* got 3"),
    (dict(groups=3), "groups must be a multiple of the 2 ranks .* got 3"),
    (dict(conventions=snp.Conventions(renorm="pre")), "conventions over several ranks")])
def test_layers_that_cannot_be_cut_are_refused(config, message):
    arrays = problem(TWO)
    with pytest.raises(RuntimeError, match=message):
        over_ranks(replace(TWO, **config), arrays, (2, 1))
    with pytest.raises(RuntimeError, match="number of ranks, 2, got 3 x 1"):
        simulated.run(2, lambda world: lay_out(world, 3))
    with pytest.raises(RuntimeError, match=r"2 ranks share must be a multiple of 2, got 3"):
        simulated.run(2, lambda world: shards.part(np.ones(3), world))
