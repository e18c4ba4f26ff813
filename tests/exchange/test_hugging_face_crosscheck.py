"""The whole model live against transformers 5 in float64, its trajectories, and its generation.

transformers computes the mean square of its norms and the counts of its balance loss in float32,
whatever the model's precision; `in_float64` gives it float64 there, and changes nothing else.
"""

import numpy as np
import pytest
from exchange.golden_model import compare

from switch_np import model
from switch_np.commands import sizes
from switch_np.exchange import hugging_face, pretrained_folder
from switch_np.generate import generate
from switch_np.operations import tree
from switch_np.training import adafactor, optimizer
from switch_np.transformer.batch import Batch
from switch_np.transformer.designs import PUBLISHED
from switch_np.transformer.model_config import ModelConfig

pytestmark = [pytest.mark.crosscheck, pytest.mark.filterwarnings("default")]
try:
    import torch
    import transformers
    from transformers.models.switch_transformers import modeling_switch_transformers as theirs
except ImportError:                   # the fixture skips, with the reason
    torch = transformers = theirs = None


@pytest.fixture(autouse=True)
def in_float64(monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")

    def norm(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)
                                              + self.variance_epsilon))

    def balance(probs, indices):
        chosen = torch.nn.functional.one_hot(indices, probs.shape[-1]).to(probs.dtype)
        return (chosen.mean(-2) * probs.mean(-2)).mean() * probs.shape[-1] ** 2

    monkeypatch.setattr(theirs.SwitchTransformersLayerNorm, "forward", norm)
    monkeypatch.setattr(theirs, "load_balancing_loss_func", balance)


CASES = {
    "tied": {},
    "untied": dict(tie_word_embeddings=False, router_bias=True),
    "strides": dict(num_layers=4, num_decoder_layers=6, num_sparse_encoder_layers=2,
                    num_sparse_decoder_layers=2),
    "one layer, no drops": dict(num_layers=1, num_decoder_layers=2, num_sparse_encoder_layers=1,
                                expert_capacity=64),
    "every block": dict(num_sparse_encoder_layers=2, num_sparse_decoder_layers=2,
                        tie_word_embeddings=False),
    "encoder all sparse": dict(num_sparse_encoder_layers=2, router_bias=True, num_experts=2),
    "gelu, long": dict(dense_act_fn="gelu_new", relative_attention_num_buckets=4,
                       relative_attention_max_distance=5, num_heads=1, layer_norm_epsilon=1e-3),
    "silu, capacity 1": dict(dense_act_fn="silu", expert_capacity=1, num_experts=5),
    "one expert": dict(num_experts=1, dense_act_fn="gelu"),
    "every token dropped": dict(expert_capacity=0),
}


def build(seed, dtype="float64", **options):
    """Return a random model of theirs, and the same as ours."""
    rng = np.random.default_rng(seed)
    values = dict(
        vocab_size=13, d_model=8, d_kv=int(rng.integers(2, 5)), d_ff=int(rng.integers(5, 9)),
        num_layers=2, num_decoder_layers=2, num_sparse_encoder_layers=1,
        num_sparse_decoder_layers=1, num_heads=2, num_experts=3, expert_capacity=2,
        relative_attention_num_buckets=8, relative_attention_max_distance=16, dropout_rate=0.0,
        router_jitter_noise=0.0, router_aux_loss_coef=0.03, router_z_loss_coef=0.02,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    torch.manual_seed(seed)
    config = transformers.SwitchTransformersConfig(**{**values, **options},
                                                   attn_implementation="eager")
    peer = transformers.SwitchTransformersForConditionalGeneration(config)
    peer = peer.to(getattr(torch, dtype)).eval()
    for module in peer.modules():
        if isinstance(module, theirs.SwitchTransformersTop1Router):
            module.dtype = getattr(torch, dtype)
    with torch.no_grad():
        for parameter in peer.parameters():                   # off their start: no scale is 1
            parameter.add_(0.3 * torch.randn_like(parameter))
    mine = hugging_face.config(config.to_dict())
    return peer, mine, hugging_face.params(peer.state_dict(), mine)


def draw_batch(seed, decoder_mask=False):
    rng = np.random.default_rng(seed)
    source, labels = rng.integers(2, 13, (3, 9)), rng.integers(1, 13, (3, 7))
    mask = np.arange(9) < np.array([[9], [6], [4]])
    labels[1, 5:] = -100
    inputs = np.pad(np.where(labels == -100, 0, labels)[:, :-1], ((0, 0), (1, 0)))
    padding = np.arange(7) < rng.integers(0, 3, (3, 1)) if decoder_mask else None
    if decoder_mask:
        labels = np.where(padding, -100, labels)
    return Batch(inputs, labels, padding, source, ~mask)


def tensors(batch):
    arrays = dict(input_ids=batch.source, attention_mask=(~batch.source_padding).astype(np.int64),
                  decoder_input_ids=batch.inputs, labels=batch.targets)
    if batch.padding is not None:
        arrays["decoder_attention_mask"] = (~batch.padding).astype(np.int64)
    return {name: torch.tensor(value) for name, value in arrays.items()}


@pytest.mark.parametrize("decoder_mask", [False, True])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_outputs_losses_and_every_gradient(name, seed, decoder_mask):
    peer, config, params = build(seed, **CASES[name])
    batch = draw_batch(seed + 10, decoder_mask)
    out = peer(**tensors(batch), output_router_logits=True)
    out.loss.backward()
    want = {"objective": out.loss, **{name: out[name] for name in (
        "logits", "encoder_last_hidden_state", "encoder_aux_loss", "decoder_aux_loss",
        "encoder_z_loss", "decoder_z_loss")}}
    want |= {f"grad:{name}": torch.zeros_like(parameter) if parameter.grad is None
             else parameter.grad for name, parameter in peer.named_parameters()}
    want = {name: torch.as_tensor(value).detach().numpy() for name, value in want.items()}
    switched = compare(config, params, batch, want)
    dropped = sum(each.plan.dropped_fraction for each in switched)
    assert (dropped == 0) == (config.switch.capacity == 64)


RULES = {
    "AdamW": (optimizer, optimizer.AdamW(beta_2=0.95, weight_decay=0.0), 3e-3,
              lambda leaves: torch.optim.AdamW(leaves, lr=3e-3, betas=(0.9, 0.95), weight_decay=0)),
    "Adafactor": (adafactor, adafactor.Adafactor(), 1e-2,
                  lambda leaves: transformers.optimization.Adafactor(leaves, lr=None)),
}


def their_arrays(leaves, config):
    """Return our arrays, as tensors, under their names: one matrix per expert, transposed."""
    state = {}
    for path, names in hugging_face._names(config):
        tensors_ = leaves[path].unbind() if hugging_face._is_per_expert(path) else [leaves[path]]
        state |= {name: tensor.T if path.split(".")[-1].startswith("w_") else tensor
                  for name, tensor in zip(names, tensors_)}
    return state


@pytest.mark.parametrize("options", [{}, dict(tie_word_embeddings=False, router_bias=True)],
                         ids=["tied", "untied"])
@pytest.mark.parametrize("name", RULES)
def test_fifty_steps_give_the_same_losses(name, options):
    """Each keeps its own parameters and takes its own steps, from one start.

    Theirs compute on our arrays: with one tensor per expert, one that got no token would have no
    gradient at all, and torch would leave its moments alone where a zero lets them decay; and
    Adafactor's root mean square would be that of each expert.
    """
    rule, settings, rate, make = RULES[name]
    peer, config, params = build(3, **options)
    leaves = {path: torch.tensor(np.ascontiguousarray(value), requires_grad=True)
              for path, value in tree.flatten(params).items()}
    params = tree.apply(np.copy, params)
    steps, moments = make(list(leaves.values())), rule.init(
        *((params,) if rule is optimizer else (params, settings)))
    mine, want = [], []
    for n in range(50):
        batch = draw_batch(n % 7)
        steps.zero_grad()
        out = torch.func.functional_call(peer, their_arrays(leaves, config),
                                         kwargs=dict(output_router_logits=True, **tensors(batch)))
        out.loss.backward()
        steps.step()
        loss, grads = model.loss_and_grads(params, batch, config)
        rule.step(params, grads, moments, settings, rate, n + 1)
        want.append(float(out.loss.detach()))
        mine.append(float(loss.total))
    np.testing.assert_allclose(mine, want, rtol=1e-8, atol=0)
    assert mine[49] < 0.9 * mine[0]                       # batches 0 and 49 are the same


@pytest.mark.parametrize("options", [{}, dict(tie_word_embeddings=False, expert_capacity=64),
                                     dict(expert_capacity=1, num_layers=4)], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_saved_folder_generates_the_same_ids(tmp_path, options, dtype):
    written = set()
    for seed in range(4):
        peer, _, _ = build(seed, dtype, **options)
        peer.save_pretrained(tmp_path)
        found = pretrained_folder.load(tmp_path)
        batch = draw_batch(1)
        want = peer.generate(torch.tensor(batch.source), do_sample=False, max_new_tokens=20,
                             attention_mask=torch.tensor(~batch.source_padding)).numpy()
        ids = generate(found.params, found.config, np.full((3, 1), found.start), 20,
                       np.random.default_rng(0), source=batch.source, temperature=0,
                       source_padding=batch.source_padding, stop=found.stop)
        stops = want == found.stop                              # after the first theirs pads
        want = np.where(stops.cumsum(axis=1) - stops > 0, found.stop, want)
        assert (want == ids[:, :want.shape[1]]).all()
        written |= set(want.ravel().tolist())
    assert len(written) > 3


def test_theirs_reads_what_ours_writes(tmp_path):
    for options in ({}, dict(tie_word_embeddings=False, num_layers=3)):
        _, config, params = build(6, **options)
        pretrained_folder.save(tmp_path, params, config)
        again = transformers.SwitchTransformersForConditionalGeneration.from_pretrained(
            tmp_path, attn_implementation="eager").eval()
        assert hugging_face.config(again.config.to_dict()) == config
        for name, value in hugging_face.state_dict(params, config).items():
            if name in (mine := again.state_dict()):
                np.testing.assert_array_equal(mine[name].numpy(), value, name)
        found = pretrained_folder.load(tmp_path).params
        assert tree.flatten(found).keys() == tree.flatten(params).keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_models_have_the_parameters_that_transformers_counts(name):
    values = hugging_face.config_values(ModelConfig.like(name))
    with torch.device("meta"):
        peer = transformers.SwitchTransformersForConditionalGeneration(
            transformers.SwitchTransformersConfig(**values))
    assert sum(p.numel() for p in peer.parameters()) == sizes.parameters(name)
