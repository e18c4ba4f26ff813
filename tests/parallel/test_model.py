"""The model and its training over ranks: the numbers of one process, and its checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
from parallel import model_cases as cases
from training.small_run import CORPUS

import switch_np as snp
from switch_np.operations import gradcheck, tree
from switch_np.parallel import simulated, trainer
from switch_np.parallel.mesh import lay_out
from switch_np.training import trainer as alone


@pytest.mark.parametrize("name, shape", [
    *((name, (4, 1)) for name in cases.CONFIGS), ("decoder alone", (1, 1)),
    ("decoder alone", (2, 1)), ("encoder, tied", (2, 2))])
def test_losses_and_gradients_are_those_of_one_process(name, shape):
    config = cases.CONFIGS[name]
    params, batch = cases.problem(config)
    loss, grads = snp.model.loss_and_grads(params, batch, config, rng=np.random.default_rng(5),
                                           training=True)
    assert any(plan.dropped_fraction > 0.1 for plan in loss.plans)
    found = simulated.run(shape[0] * shape[1], lambda world: cases.one_step(
        world, config, params, batch, shape))
    for losses, joined in found:
        np.testing.assert_allclose(losses, [*loss[:2], *loss.balance, *loss.z], rtol=1e-13)
        for path, value in tree.flatten(grads).items():
            gradcheck.compare(path, tree.flatten(joined)[path], value)


@pytest.mark.parametrize("train, shape, config", [
    *((cases.SMALL, shape, cases.LM) for shape in ((4, 1), (2, 1), (2, 2))),
    (cases.OTHER, (4, 1), cases.LM), (cases.SMALL, (2, 2), cases.BIASED)])
def test_three_steps_are_those_of_one_process(train, shape, config):
    run = alone.start(config, train, CORPUS)
    wanted = [alone.advance(run, CORPUS) for _ in range(3)]
    assert any(norm > train.max_norm for _, norm in wanted)
    for seen, whole, held_out in simulated.run(shape[0] * shape[1], lambda world: cases.steps(
            world, shape, train, config)):
        for (total, norm, dropped), (loss, wanted_norm) in zip(seen, wanted):
            np.testing.assert_allclose([total, norm], [loss.total, wanted_norm], rtol=1e-11)
            np.testing.assert_allclose(dropped, [p.dropped_fraction for p in loss.plans])
        for path, value in tree.flatten({"p": run.params, "m": run.moments}).items():
            got = tree.flatten({"p": whole.params, "m": whole.moments})[path]
            gradcheck.compare(path, got, value, 1e-10)
        assert whole.noise_rng.bit_generator.state == run.noise_rng.bit_generator.state
        assert abs(held_out - alone.evaluate(run, CORPUS.held_out, rows_at_once=8)) < 0.02


def test_a_run_goes_on_with_any_number_of_ranks_from_the_file_of_one_process(tmp_path):
    run = alone.start(cases.LM, cases.SMALL, CORPUS)
    losses = [float(alone.advance(run, CORPUS)[0].total) for _ in range(6)]
    before = None
    for n in (4, 2, 1):
        def two_steps(world, n=n, before=before):
            return cases.steps(world, (n, 1), count=2, run=before)

        seen, whole, _ = simulated.run(n, two_steps)[0]
        alone.save(whole, tmp_path / f"{n}.npz")
        before = alone.load(tmp_path / f"{n}.npz", CORPUS)
        np.testing.assert_allclose([total for total, *_ in seen],
                                   losses[before.step - 2:before.step], rtol=1e-11)
    alone.save(run, tmp_path / "alone.npz")
    with np.load(tmp_path / "alone.npz") as one, np.load(tmp_path / "1.npz") as other:
        assert {name: (one[name].shape, one[name].dtype) for name in one if name != "state"} == {
            name: (other[name].shape, other[name].dtype) for name in other if name != "state"}


def test_held_out_text_is_measured_as_by_one_process_where_it_can_be_shared_out():
    data = CORPUS.held_out[:8 * 12 + 1]                     # 8 windows
    run = alone.start(cases.LM, cases.SMALL, CORPUS)
    wanted = alone.evaluate(run, data, rows_at_once=4)

    def measure(world):
        mesh = lay_out(world, 4)
        return trainer.evaluate(trainer.cut(run, mesh), data, mesh, rows_at_once=4)

    np.testing.assert_allclose(simulated.run(4, measure), wanted, rtol=1e-13)


@pytest.mark.parametrize("train, config, shape, message", [
    (replace(cases.SMALL, batch_size=3), cases.LM, (2, 1), "batch_size .* 2 ranks .* got 3"),
    (cases.OTHER, cases.LM, (1, 2), "optimizer must be AdamW where 2 ranks share d_ff"),
    (cases.OTHER, cases.BIASED, (2, 1), "optimizer must be AdamW where ranks share experts with"),
    (cases.SMALL, replace(cases.LM, switch=replace(cases.SWITCH, groups=3)), (2, 1), "got 3"),
    (cases.SMALL, replace(cases.LM, router_losses="pooled"), (2, 1), "router_losses must be")])
def test_runs_that_cannot_be_shared_out_are_refused(train, config, shape, message):
    with pytest.raises(RuntimeError, match=message):
        simulated.run(2, lambda world: cases.steps(world, shape, train, config))


def test_the_norm_counts_every_gradient_once(monkeypatch):
    """Planted: shards counted as if replicated, on each rank by itself."""
    run = alone.start(cases.LM, cases.SMALL, CORPUS)
    _, norm = alone.advance(run, CORPUS)
    monkeypatch.setattr(trainer.shards, "square_sum", lambda grads, mesh: sum(
        float((g ** 2).sum()) for g in tree.flatten(grads).values()))
    (_, found, _), *_ = simulated.run(2, lambda world: cases.steps(world, (2, 1)))[0][0]
    assert abs(found - norm) > 1e-3 * norm
