"""Layers of four other libraries, live in float32, judged by the oracle under their presets.

Where a library draws random numbers, the reference gets the same ones: they are drawn once more
from the same state of the generator, in the order in which the library's source draws them.
"""

from fnmatch import fnmatch

import pytest

from switch_np import Noise, SwitchConfig, oracle, presets

pytestmark = [pytest.mark.crosscheck, pytest.mark.filterwarnings("default")]
B, S, D, F = 4, 24, 9, 6
T = B * S
# Our parameters by their names: * is the expert, /0 and /1 are the halves of the rows.
NAMES = {
    "litgpt": {
        "w_router": "gate.weight", "select_bias": "gate.e_score_correction_bias"} | {
        f"{shared}{kind[0]}_{ours}": f"{network}.{theirs}.{kind}"
        for shared, network in (("", "experts.*"), ("shared_", "shared_experts"))
        for ours, theirs in (("gate", "fc_1"), ("in", "fc_2"), ("out", "proj"))
        for kind in ("weight", "bias")},
    "st_moe": {
        "w_router": "gate.to_gates.weight", "hidden_scale": "experts.experts.*.net.1.mult_bias",
        "w_in": "experts.experts.*.net.0.weight/0", "w_gate": "experts.experts.*.net.0.weight/1",
        "b_in": "experts.experts.*.net.0.bias/0", "b_gate": "experts.experts.*.net.0.bias/1",
        "w_out": "experts.experts.*.net.2.weight", "b_out": "experts.experts.*.net.2.bias"},
    "lucidrains": {"w_router": "gate.w_gating", "w_in": "experts.w1", "w_out": "experts.w2"},
    "fairscale": {
        "w_router": "gate.wg.weight", "w_in": "experts.*.0.weight", "b_in": "experts.*.0.bias",
        "w_out": "experts.*.2.weight", "b_out": "experts.*.2.bias"},
}
THEIR_GROUPS = dict(n_expert=8, n_expert_groups=4, n_topk_groups=2, n_topk_scores_per_group=1,
                    n_expert_per_token=3, routed_scaling_factor=2.5)
OUR_GROUPS = dict(num_experts=8, select_groups=4, select_groups_kept=2, select_group_best=1,
                  top_k=3, gate_scale=2.5, scores="sigmoid", select_bias=True, renorm="none")
CASES = {                                      # by preset and name: their options, our settings
    ("litgpt", "two experts"): ({}, {}),
    ("litgpt", "one expert"): (dict(n_expert_per_token=1), dict(top_k=1)),
    ("litgpt", "biases"): (dict(bias=True, n_expert_per_token=3, routed_scaling_factor=0.5),
                           dict(expert_biases=True, top_k=3, gate_scale=0.5)),
    ("litgpt", "groups"): (THEIR_GROUPS, OUR_GROUPS),
    ("litgpt", "groups and shared experts"): (
        THEIR_GROUPS | dict(n_topk_scores_per_group=2, n_shared_expert=2, norm_topk_prob=True),
        OUR_GROUPS | dict(select_group_best=2, shared_experts=2, renorm="pre", renorm_eps=1e-20)),
    ("st_moe", "two experts"): ({}, {}),
    ("st_moe", "few drops"): (dict(capacity_factor_train=1.75), dict(capacity_factor=1.75)),
    ("st_moe", "three experts"): (
        dict(gating_top_n=3, threshold_train=0.3, capacity_factor_train=2.5),
        dict(top_k=3, second_threshold=0.3, capacity_factor=2.5)),
    ("st_moe", "plain dispatch"): (dict(straight_through_dispatch_tensor=False),
                                   dict(dispatch_gradient="stop")),
    ("st_moe", "noise on the logits"): ({}, dict(logit_noise="gumbel")),
    ("st_moe", "evaluated"): ({}, {}),
    ("lucidrains", "two experts"): ({}, {}),
    ("lucidrains", "few drops"): (dict(capacity_factor_train=1.75), dict(capacity_factor=1.75)),
    ("lucidrains", "every second choice"): (dict(second_policy_train="all"),
                                            dict(second_policy="all")),
    ("lucidrains", "no second choice"): (dict(second_policy_train="none"),
                                         dict(second_policy="none")),
    ("lucidrains", "evaluated"): ({}, {}),
    ("fairscale", "two experts"): ({}, dict(expert_biases=True)),
}


def litgpt(torch, options, conventions):
    """Return, as all of these do, a layer, its noise, and how it gives y and its losses for x."""
    theirs = pytest.importorskip("litgpt.model", reason="litgpt is not installed")
    layer = theirs.LLaMAMoE(theirs.Config(**{
        "n_embd": D, "n_head": 1, "n_layer": 1, "mlp_class_name": "LLaMAMoE", "n_expert": 4,
        "n_expert_per_token": 2, "moe_intermediate_size": F, "bias": False, **options}))
    for bias in layer.buffers():
        bias.uniform_(0, 0.5)
    return layer, Noise, lambda x: (layer(x), {})


def st_moe(torch, options, conventions):
    theirs = pytest.importorskip("st_moe_pytorch", reason="st-moe-pytorch is not installed")
    layer = theirs.MoE(dim=D, num_experts=4, expert_hidden_mult=1, **options)   # F is 2/3 of D
    noisy = conventions.logit_noise != "none"

    def noise():
        logits = theirs.st_moe_pytorch.gumbel_noise(torch.zeros(T, 4)) if noisy else None
        return Noise(logits=logits, policy=torch.rand(T, layer.gate.top_n)[:, 1:])

    def run(x):
        out = layer(x, noise_gates=noisy)
        losses = {"balance_loss": out.balance_loss, "z_loss": out.router_z_loss}
        return out.outputs, {name: loss.sum() for name, loss in losses.items()
                             if not (noisy and name == "z_loss")}      # theirs is of clean logits

    return layer, noise, run


def lucidrains(torch, options, conventions):
    theirs = pytest.importorskip("mixture_of_experts",
                                 reason="mixture-of-experts is not installed")
    layer = theirs.MoE(dim=D, num_experts=4, hidden_dim=F, **options)

    def run(x):
        y, loss = layer(x)
        return y, {"balance_loss": loss / layer.loss_coef}

    random = conventions.second_policy == "random"
    return layer, lambda: Noise(policy=torch.rand(T, 1) if random else None), run


def fairscale(torch, options, conventions):
    theirs = pytest.importorskip("fairscale.nn.moe", reason="fairscale is not installed")
    layer = theirs.MOELayer(theirs.Top2Gate(D, 4), torch.nn.ModuleList(
        torch.nn.Sequential(torch.nn.Linear(D, F), torch.nn.ReLU(), torch.nn.Linear(F, D))
        for _ in range(4)))
    return (layer, lambda: Noise(second=theirs.top2gate.gumbel_rsample((T, 4), "cpu")),
            lambda x: (layer(x), {"balance_loss": layer.l_aux}))


def under_our_names(library, tensors):
    """Return their parameters, or gradients, by our names and in our layout."""
    found = {}
    for ours, theirs in NAMES[library].items():
        theirs, _, half = theirs.partition("/")
        parts = [tensor for name, tensor in tensors.items() if fnmatch(name, theirs)]
        parts = [part.chunk(2)[int(half)] for part in parts] if half else parts
        parts = [part.T for part in parts] if theirs.endswith("weight") else parts
        if parts:
            found[ours] = parts if "*" in theirs else parts[0]
    return found


@pytest.fixture
def one_process(torch):
    """The group of a single process, which fairscale's layer asks for."""
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("library, name", CASES)
def test_output_losses_and_every_gradient(torch, one_process, library, name, seed):
    assert presets()[library].live
    options, settings = CASES[library, name]
    config = SwitchConfig.like(library, **{"num_experts": 4, **settings})
    make = {"litgpt": litgpt, "st_moe": st_moe, "lucidrains": lucidrains, "fairscale": fairscale}
    torch.manual_seed(seed)
    layer, noise, run = make[library](torch, options, config.conventions)
    layer.train(name != "evaluated")
    for parameter in layer.parameters():
        parameter.data.normal_(0, 0.5)
    x, d_y = torch.randn(B, S, D, requires_grad=True), torch.randn(B, S, D)
    before = torch.get_rng_state()
    noise = noise()
    torch.set_rng_state(before)
    y, losses = run(x)
    ((y * d_y).sum() + 9 * sum(losses.values())).backward()
    params = dict(layer.named_parameters())
    ref = oracle.reference(
        x, under_our_names(library, params | dict(layer.named_buffers())), config, d_y=d_y,
        noise=noise, balance_coef=9.0 * ("balance_loss" in losses),
        z_coef=9.0 * ("z_loss" in losses), training=layer.training)
    report = oracle.compare(ref, y=y, **losses, grads={"x": x.grad} | under_our_names(
        library, {name: parameter.grad for name, parameter in params.items()}))
    assert report.ok and not report.unseen, str(report)
    assert {*report.not_judged} == {"balance_loss", "z_loss"} - {*losses} | (
        {"d_select_bias"} & {*ref.outputs()})
