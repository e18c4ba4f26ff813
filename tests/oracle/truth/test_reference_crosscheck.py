"""The oracle against PyTorch, JAX and transformers, live; skipped where these are not installed."""

import os

import numpy as np
import pytest
from oracle.problems import problem

from switch_np import SwitchConfig, oracle

pytestmark = [pytest.mark.crosscheck, pytest.mark.filterwarnings("default")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def random_problem(seed, few_shapes=False):
    """Return a problem of random sizes, k, capacity and padding."""
    rng = np.random.default_rng([seed, 3])
    experts = int(rng.integers(2, 9))
    sizes = (24, 6, 10) if few_shapes else rng.integers((4, 2, 2), (50, 12, 16)).tolist()
    config = SwitchConfig(
        num_experts=4 if few_shapes else experts, top_k=int(rng.integers(1, 3)),
        capacity_factor=[0.5, 0.9, 1.25, None][seed % 4])
    return oracle.draw(config, *sizes, seed=seed, padding=int(rng.integers(0, 4)))


def close(ref, values):
    """Demand 1e-12 of the largest entry."""
    for name, value in values.items():
        want = ref.outputs()[name]
        assert tuple(value.shape) == want.shape, name
        # A gradient that is 0 but for rounding has no largest entry to speak of.
        scale = max(np.abs(want).max(initial=0), ref.sigma("float64")[name].max() * 2.0 ** 53)
        assert np.abs(oracle.to_numpy(value) - want).max(initial=0) <= 1e-12 * scale, name


def held_against(ref, got):
    """Demand the same numbers and the same decisions."""
    assert (oracle.to_numpy(got["expert"]) == ref.plan.expert)[ref.plan.kept].all()
    assert (oracle.to_numpy(got["kept"]) == ref.plan.kept).all()
    close(ref, {name: got["grads"][name[2:]] if name[:2] == "d_" else got[name]
                for name in ref.outputs()})


@pytest.mark.parametrize("seed", range(40))
def test_torch_autograd_of_the_one_hot_form(torch, seed):
    from oracle.truth.foreign_kernels import torch_one_hot

    asked = random_problem(seed)
    held_against(oracle.reference(**asked), torch_one_hot(asked, "float64"))


@pytest.mark.parametrize("seed", range(6))
def test_jax_of_the_one_hot_form(jax, seed):
    from oracle.truth.foreign_kernels import jax_one_hot

    asked = random_problem(seed, few_shapes=True)
    held_against(oracle.reference(**asked), jax_one_hot(asked, "float64"))


def test_arrays_of_other_libraries_are_taken_as_they_are(torch):
    asked = random_problem(2)
    plain = oracle.reference(**asked)
    for kind in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        held = {name: torch.tensor(value).to(kind).requires_grad_()
                for name, value in asked["params"].items()}
        ref = oracle.reference(**{**asked, "x": torch.tensor(asked["x"]).to(kind), "params": held})
        assert ref.precision == str(kind).split(".")[1]
        assert np.abs(ref.y - plain.y).max() < 0.2
        report = oracle.compare(ref, y=torch.tensor(ref.y).to(kind),
                                grads={"w_in": [torch.tensor(part) for part in ref.grads["w_in"]]})
        assert report.ok and report.precision == ref.precision, str(report)


def test_jax_arrays_are_taken_as_they_are(jax):
    import jax.numpy as jnp

    asked = random_problem(2)
    for kind in (jnp.float32, jnp.bfloat16, jnp.float16):
        ref = oracle.reference(**{**asked, "x": jnp.asarray(asked["x"], kind)})
        assert ref.precision == jnp.dtype(kind).name
        assert oracle.compare(ref, y=jnp.asarray(ref.y, kind)).ok


def test_planted_bugs_in_a_torch_kernel_are_named(torch):
    """Bugs of another code than the museum's own, in float32."""
    from oracle.truth.foreign_kernels import torch_loop

    asked, ref = problem(SwitchConfig(num_experts=4, top_k=2, capacity_factor=0.9), 32, 8, 8,
                         seed=4, padding=3, precision="float32")
    for name, loss in (("balance_coef", "balance loss"), ("z_coef", "z-loss")):
        got = torch_loop({**asked, name: 0.0}, "float32")
        with pytest.raises(AssertionError, match=f"the {loss} does not reach the router"):
            oracle.assert_matches(ref, y=got["y"], grads=got["grads"], expert=got["expert"])
    got = torch_loop(asked, "float32")
    oracle.assert_matches(ref, **got, complete=True)
    with pytest.raises(AssertionError, match="permuted"):
        oracle.assert_matches(ref, y=got["y"].flip(0))


def test_right_kernels_raise_no_alarm(torch):
    """A tenth of `false_alarms.py`: no verdict but pass and out of range."""
    pytest.importorskip("jax", reason="JAX is not installed")
    from oracle.judge import false_alarms

    said = []
    verdicts, worst = false_alarms.run(300, 5000, said.append)
    assert not said, said[0]
    assert sum(verdicts.values()) == 300
    assert {precision for precision, _ in worst} == set(false_alarms.PRECISIONS)


@pytest.fixture
def transformers(torch, monkeypatch):
    """transformers in float64: its routers' casts to float32 are taken out."""
    found = pytest.importorskip("transformers", reason="transformers is not installed")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    monkeypatch.setattr(torch.Tensor, "type", lambda self, kind: self.double())
    yield found
    torch.set_default_dtype(before)


def module_held_against(torch, module, config, ours, seed, rng):
    """Compare a module with random weights: a pass of the verdict, and 1e-12 of the largest entry.

    `ours` gives the parameters, or their gradients, under our names.
    """
    generator, module = torch.Generator().manual_seed(seed), module.double()
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            value.copy_(0.3 * torch.randn(value.shape, generator=generator, dtype=torch.float64))
    module.eval()
    x, d_y = rng.standard_normal((2, 2, 9, 6))
    weights = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    ref = oracle.reference(x, ours(weights), config, d_y=d_y)
    x = torch.tensor(x, requires_grad=True)
    y = module(x)
    y = y[0] if isinstance(y, tuple) else y
    y.backward(torch.tensor(d_y))
    grads = {"x": x.grad, **ours({
        name: torch.zeros_like(value) if value.grad is None else value.grad
        for name, value in module.named_parameters()})}
    oracle.assert_matches(ref, y=y, grads=grads, precision="float64")
    close(ref, {"y": y, **{f"d_{name}": grad for name, grad in grads.items()}})


@pytest.mark.parametrize("seed", range(8))
def test_switch_of_transformers(transformers, torch, seed):
    from transformers import SwitchTransformersConfig
    from transformers.models.switch_transformers import modeling_switch_transformers as hf

    rng = np.random.default_rng(seed)
    experts, capacity = int(rng.integers(2, 6)), int(rng.integers(1, 6))
    module = hf.SwitchTransformersSparseMLP(SwitchTransformersConfig(
        d_model=6, d_ff=10, num_experts=experts, expert_capacity=capacity, dropout_rate=0.0,
        router_jitter_noise=0.0, router_bias=False))
    module.router.dtype = torch.float64

    def ours(arrays):
        w_in, w_out = (np.stack([oracle.to_numpy(arrays[f"experts.expert_{e}.{name}.weight"]).T
                                 for e in range(experts)]) for name in ("wi", "wo"))
        return {"w_router": oracle.to_numpy(arrays["router.classifier.weight"]).T, "w_in": w_in,
                "w_out": w_out}

    config = SwitchConfig.like("hf_switch", num_experts=experts, capacity=capacity)
    module_held_against(torch, module, config, ours, seed, rng)


def experts_of(gate_up_proj, down_proj):
    """Return the weights of experts that keep gate and up as (E, 2F, D), and down as (E, D, F)."""
    w_gate, w_in = np.split(oracle.to_numpy(gate_up_proj).swapaxes(1, 2), 2, axis=2)
    return {"w_gate": w_gate, "w_in": w_in, "w_out": oracle.to_numpy(down_proj).swapaxes(1, 2)}


def routed(arrays):
    """Return the weights of a router and its experts."""
    return {"w_router": oracle.to_numpy(arrays["gate.weight"]).T,
            **experts_of(arrays["experts.gate_up_proj"], arrays["experts.down_proj"])}


@pytest.mark.parametrize("seed", range(8))
def test_mixtral_of_transformers(transformers, torch, seed):
    from transformers import MixtralConfig
    from transformers.models.mixtral import modeling_mixtral as hf

    rng = np.random.default_rng(seed)
    experts = int(rng.integers(2, 7))
    settings = MixtralConfig(hidden_size=6, intermediate_size=10, num_local_experts=experts,
                             num_experts_per_tok=int(rng.integers(1, experts + 1)),
                             router_jitter_noise=0.0)
    settings._experts_implementation = "eager"
    config = SwitchConfig.like("hf_mixtral", num_experts=experts,
                               top_k=settings.num_experts_per_tok)
    module_held_against(torch, hf.MixtralSparseMoeBlock(settings), config, routed, seed, rng)


@pytest.mark.parametrize("way, kind", [
    (way, kind) for way in ("eager", "batched_mm", "grouped_mm")
    for kind in ("float64", "float32", "bfloat16") if (way, kind) != ("grouped_mm", "float64")])
def test_experts_of_mixtral_alone(torch, way, kind):
    """All three ways of transformers, with gates and choices of no router that anybody knows."""
    hf = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    settings = hf.MixtralConfig(hidden_size=16, intermediate_size=24, num_local_experts=5)
    settings._experts_implementation = way
    module, dtype = hf.MixtralExperts(settings), getattr(torch, kind)
    generator = torch.Generator().manual_seed(5)

    def random(*shape):
        return (0.5 * torch.randn(shape, generator=generator)).to(dtype).requires_grad_()

    for name, value in [*module.named_parameters()]:
        setattr(module, name, torch.nn.Parameter(random(*value.shape)))
    x, gates, d_y = random(40, 16), random(40, 2), random(40, 16).detach()
    index = torch.rand(40, 5, generator=generator).argsort(dim=1)[:, :2]
    y = module(x, index, gates)
    y.backward(d_y)

    weights = dict(module.named_parameters())
    ref = oracle.reference(x, experts_of(**weights), "hf_mixtral", gates=gates, plan=index, d_y=d_y)
    got = {"y": y, "precision": kind, "grads": {"x": x.grad, "gates": gates.grad, **experts_of(
        **{name: value.grad for name, value in weights.items()})}}
    oracle.assert_matches(ref, **got, complete=True)
    if kind == "float64":
        close(ref, {"y": y, **{f"d_{name}": grad for name, grad in got["grads"].items()}})
    with pytest.raises(AssertionError, match="d_gates is multiplied by 2"):
        oracle.assert_matches(ref, **got | {"grads": {"gates": 2 * gates.grad}})


@pytest.mark.parametrize("seed", range(4))
def test_deepseek_v3_of_transformers(transformers, torch, seed):
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3 import modeling_deepseek_v3 as hf

    settings = DeepseekV3Config(
        hidden_size=6, moe_intermediate_size=5, n_routed_experts=16, n_shared_experts=2,
        num_experts_per_tok=4, n_group=4, topk_group=2, routed_scaling_factor=2.5)
    settings._experts_implementation = "eager"
    names = {"shared_w_gate": "gate_proj", "shared_w_in": "up_proj", "shared_w_out": "down_proj"}

    def ours(arrays):
        shared = {name: oracle.to_numpy(arrays[f"shared_experts.{theirs}.weight"]).T
                  for name, theirs in names.items()}
        bias = arrays.get("gate.e_score_correction_bias")           # a buffer, without a gradient
        return routed(arrays) | shared | ({} if bias is None else {"select_bias": bias})

    config = SwitchConfig.like("hf_deepseek_v3", num_experts=16, top_k=4, select_groups=4,
                               select_groups_kept=2, shared_experts=2, gate_scale=2.5)
    module_held_against(torch, hf.DeepseekV3MoE(settings), config, ours, seed,
                        np.random.default_rng(seed))
