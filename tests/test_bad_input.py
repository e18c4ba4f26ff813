"""Bad input to the public calls: the message names the argument, what came, and what is wanted."""

from dataclasses import replace

import numpy as np
import pytest
from support import TINY

import switch_np as snp
from switch_np import generate, model
from switch_np.conventions.noise import Noise
from switch_np.conventions.table import Conventions
from switch_np.operations import adapters
from switch_np import plans as plan
from switch_np.transformer.model_noise import BlockNoise, ModelNoise, StackNoise

CONFIG = snp.SwitchConfig(num_experts=3)
FULL = replace(CONFIG, capacity=0)                                    # every token is dropped
RNG = np.random.default_rng(0)
PARAMS = snp.switch_layer.init(RNG, 4, 5, CONFIG)
X = RNG.standard_normal((6, 4))
MODEL = snp.ModelConfig(**TINY, switch=CONFIG)
WEIGHTS = model.init(RNG, MODEL)
IDS = RNG.integers(0, 7, (2, 5))
BOTH = snp.ModelConfig(**TINY, num_encoder_layers=2)
BOTH_WEIGHTS = model.init(RNG, BOTH)
MEMORY = np.ones((2, 3, 4))


def layer(params=PARAMS, x=X, config=CONFIG, **options):
    return snp.switch_layer.forward(params, x, config, **options)


def with_nan(array):
    return np.where(np.arange(array.size).reshape(array.shape) == 3, np.nan, array)


DROPPING = replace(MODEL, dropout=0.1)


def noisy(**masks):
    """Return noise with these masks in the first block."""
    return ModelNoise(StackNoise(blocks=(BlockNoise(**masks), BlockNoise(), BlockNoise())))


def loss(batch, params=WEIGHTS, **options):
    return snp.model.loss_and_grads(params, batch, MODEL, **options)


def decode(ids=IDS, memory=MEMORY, params=BOTH_WEIGHTS, **options):
    return model.decode(params, ids, BOTH, memory=memory, **options)


PLAN = layer()[0].plan
LAYER = [
    (lambda: layer(x=X.tolist()), TypeError, r"x must be an array of shape \(T, D\)"),
    (lambda: layer(x=X[0]), ValueError, r"x must be an array of shape .* got shape \(4,\)"),
    (lambda: layer(x=X[:, :3]), ValueError, r"params\['w_in'\] must have shape \(3, 3, F\)"),
    (lambda: layer(x=X.astype(int)), TypeError, "x must hold float32 or float64 numbers, got int"),
    (lambda: layer(x=X.astype(np.float32)), TypeError, "must be float32 like the rest, got float6"),
    (lambda: layer(x=with_nan(X)), ValueError, r"x must be finite, got nan at \(0, 3\)"),
    (lambda: layer(x=X * np.inf), ValueError, "x must be finite, got -?inf"),
    (lambda: layer(params={}), ValueError, r"params must have the keys \['w_in', 'w_out', 'w_rout"),
    (lambda: layer(params={**PARAMS, 3: X}), ValueError, r"params must have .* got \[3, 'w_in', '"),
    (lambda: layer(params={**PARAMS, "w_router": with_nan(PARAMS["w_router"])}), ValueError,
     r"params\['w_router'\] must be finite, got nan at"),
    (lambda: layer(params={**PARAMS, "w_out": PARAMS["w_in"]}), ValueError,
     r"params\['w_out'\] must have shape \(3, 5, 4\), got \(3, 4, 5\)"),
    (lambda: layer(padding=np.zeros(6)), TypeError, "padding must be .* bool, got .*float64"),
    (lambda: layer(padding=np.zeros(5, bool)), ValueError, r"padding must have shape \(6,\)"),
    (lambda: layer(config=replace(CONFIG, groups=4)), ValueError,
     "groups must divide the number of tokens, 6, got 4"),
    (lambda: layer(config=replace(CONFIG, groups="rows")), ValueError,
     r"x must have shape \(B, S, D\) with groups='rows', got \(6, 4\)"),
    (lambda: layer(training=True), ValueError, "rng must be a Generator"),
    (lambda: layer(noise=Noise(jitter=np.ones((5, 4)))), ValueError, "noise.jitter must have shap"),
    (lambda: layer(noise=Noise(jitter=with_nan(X))), ValueError, "noise.jitter must be finite"),
    (lambda: layer(noise=Noise(expert_dropout=np.ones((6, 1, 5)))), TypeError,
     "noise.expert_dropout must be a NumPy array of bool"),
    (lambda: layer(x=X[:5], plan=PLAN), ValueError, "plan must be for 5 tokens, 3 experts"),
    (lambda: layer(plan=replace(PLAN, expert=PLAN.expert + 1)), ValueError, "plan.expert must lie"),
    (lambda: layer(plan=replace(PLAN, kept=~PLAN.kept)), ValueError, "plan.kept must be True for "),
    (lambda: layer(plan=PLAN, config=replace(CONFIG, top_k=2)), ValueError,
     r"1 group\(s\) and 2 choice\(s\) per token, got one for 6, 3, 1 and 1"),
    (lambda: layer(plan=PLAN, padding=np.arange(6) > 3), ValueError,
     "plan must not keep choices of padding, which is not routed here, got one that keeps token 4"),
    (lambda: layer(plan=layer(config=FULL)[0].plan, padding=np.arange(6) > 3, config=FULL),
     ValueError, r"plan.balance_tokens must be \[4\], .* got \[6\]"),
    (lambda: layer(plan=layer(padding=np.arange(6) > 3)[0].plan), ValueError,
     r"plan must be for the same padding: plan.balance_tokens must be \[6\], .* got \[4\]"),
    (lambda: layer(plan=replace(PLAN, expert=PLAN.expert[:, 0])), ValueError, "plan.expert must h"),
    (lambda: layer(plan=replace(PLAN, kept=PLAN.kept.astype(int))), TypeError, "plan.kept must be"),
    (lambda: layer(plan=replace(PLAN, slot=None)), TypeError, "plan.slot must be .* got None"),
    (lambda: layer(plan=replace(PLAN, group=PLAN.group + 1)), ValueError, "plan.group must lie in"),
    (lambda: layer(plan=replace(PLAN, load=PLAN.load[0])), ValueError, "plan.load must have shape"),
    (lambda: layer(plan=replace(PLAN, start=PLAN.start * 1.0)), TypeError, "plan.start must be a"),
    (lambda: layer(plan=replace(PLAN, start=PLAN.start + [0, 0, 0, 9])), ValueError,
     "plan.start must end with the number of kept choices, .*, with layout='packed', got"),
    (lambda: layer(plan=replace(PLAN, balance_count=PLAN.load * 0.5)), TypeError,
     "plan.balance_count must be a NumPy array of whole numbers"),
    (lambda: layer(plan=replace(PLAN, balance_tokens=PLAN.start)), ValueError,
     r"plan.balance_tokens must have shape \(1,\), got \(4,\)"),
    (lambda: layer(plan=replace(PLAN, capacity="a")), TypeError, "plan.capacity must be a whole"),
    (lambda: layer(plan=replace(PLAN, layout="dense")), ValueError, "plan.layout must be one of"),
    (lambda: layer(plan=layer(config=replace(CONFIG, capacity=9))[0].plan,
                   config=replace(CONFIG, capacity=1)), ValueError,
     "plan must keep at most 1 choices per expert and group, the config's capacity, got "),
    (lambda: snp.switch_layer.backward(X[:5], layer()[1]), ValueError, r"d_y must have shape \(6"),
    (lambda: snp.switch_layer.backward(X, layer()[1], d_balance_loss="a"), TypeError,
     "d_balance_loss must be a number, got 'a'"),
    (lambda: snp.switch_layer.backward(X, layer()[1], d_z_loss=np.nan), ValueError,
     "d_z_loss must be finite, got nan"),
    (lambda: snp.switch_layer.backward(X, layer()[1], d_probs=X), ValueError, "d_probs must have"),
    (lambda: layer(x=np.ma.array(X)), TypeError, "x must be a plain array, got a MaskedA"),
    (lambda: layer(x=X.view(np.matrix)), TypeError, "x must be a .* a matrix: np.asarray m"),
    (lambda: layer(params={**PARAMS, "w_in": np.ma.array(PARAMS["w_in"])}), TypeError,
     r"params\['w_in'\] must be a plain array, got a MaskedArray"),
    (lambda: layer(padding=np.ma.array(np.zeros(6, bool))), TypeError, "padding must be a plain"),
    (lambda: snp.switch_layer.backward(np.ma.array(X), layer()[1]), TypeError, "d_y must be a pla"),
    (lambda: plan.from_choices(np.ma.array(PLAN.expert), CONFIG), TypeError, "expert must be a pl"),
    (lambda: plan.from_choices(PLAN.expert.view(np.matrix), CONFIG), TypeError, "expert must be a"),
    *((lambda asked=asked: snp.switch_layer.backward(**{"d_y": X, "cache": layer()[1], **asked}),
       TypeError, f"{next(iter(asked))} must be real, as x and params were, got complex128")
      for asked in ({"d_y": X + 1j}, {"d_probs": X[:, :3] + 1j}, {"d_logits": X[:, :3] + 1j})),
    *((lambda cache=cache: snp.switch_layer.backward(X, cache), TypeError,
       "cache must be a LayerCache, got ") for cache in (None, layer()[0], tuple(layer()[1]))),
    (lambda: snp.switch_layer.init(RNG, 0, 5, CONFIG), ValueError, "d_model must be at least 1"),
    *((lambda kind=kind: snp.switch_layer.init(RNG, 4, 5, CONFIG, dtype=kind), TypeError,
       f"dtype must be float32 or float64, got .*{getattr(kind, '__name__', kind)}")
      for kind in (int, bool, str, object, complex, np.float16, ">f8", "double trouble")),
    (lambda: model.init(RNG, MODEL, dtype=int), TypeError, "dtype must be float32 or float64, got"),
    (lambda: snp.SwitchConfig(num_experts=0), ValueError, "num_experts must be at least 1, got 0"),
    (lambda: snp.SwitchConfig(num_experts=2, top_k=3), ValueError, "top_k must be at most num_exp"),
    (lambda: snp.SwitchConfig(capacity_factor=-0.5), ValueError, "capacity_factor must be finite"),
    (lambda: snp.SwitchConfig(capacity_factor=float("inf")), ValueError, "capacity_factor must be"),
    *((lambda huge=huge, name=name: snp.SwitchConfig(**{name: huge}), ValueError,
       rf"{name} must be finite, at least 0 and below 1e\+200, got 1")
      for huge in (1e308, 10**400) for name in ("capacity_factor", "eval_capacity_factor")),
    (lambda: Conventions(eval_capacity_fraction=1e308), ValueError, "eval_capacity_fraction m"),
    (lambda: snp.SwitchConfig(capacity=-1), ValueError, "capacity must be at least 0, got -1"),
    (lambda: snp.SwitchConfig(eval_capacity_factor="x"), ValueError, "eval_capacity_factor must"),
    (lambda: snp.SwitchConfig(groups="columns"), ValueError, "groups must be one of 'all', 'rows'"),
    (lambda: snp.SwitchConfig(layout="dense"), ValueError, "layout must be one of"),
]
MODELS = [
    (lambda: loss((IDS, IDS)), TypeError, "batch must be a Batch, got"),
    (lambda: loss(snp.Batch(IDS[:0], IDS[:0])), ValueError, "batch must hold at least one target"),
    (lambda: loss(snp.Batch(IDS, IDS * 0 - 100)), ValueError, "batch must hold at least one targ"),
    (lambda: loss(snp.Batch(IDS + 3, IDS)), ValueError, "batch.inputs must lie in 0 .. 6, got"),
    (lambda: loss(snp.Batch(IDS, IDS - 7)), ValueError, "batch.targets must lie in 0 .. 6 or be"),
    (lambda: loss(snp.Batch(IDS * 1.0, IDS)), TypeError, "batch.inputs must be .* whole numbers"),
    (lambda: loss(snp.Batch(IDS, IDS[:1])), ValueError, r"batch.targets must have shape \(2, 5\)"),
    (lambda: loss(snp.Batch(IDS, IDS, IDS)), TypeError, "batch.padding must be .* bool"),
    (lambda: loss(snp.Batch(IDS, IDS), plans=[]), ValueError, "plans must be 1, one per Switch"),
    (lambda: loss(snp.Batch(IDS, IDS), training=True), ValueError, "rng must be a Generator"),
    (lambda: loss(snp.Batch(IDS, IDS), {"embedding": {"table": np.ones((7, 4))}}), ValueError,
     "params must have the keys"),
    (lambda: loss(snp.Batch(IDS, IDS), {**WEIGHTS, "embedding": {"table": np.ones((7, 5))}}),
     ValueError, r"params\['embedding.table'\] must have shape \(7, 4\), got \(7, 5\)"),
    (lambda: snp.model.forward(WEIGHTS, IDS[:, :0], MODEL), ValueError, "ids must hold at least"),
    (lambda: loss(snp.Batch(IDS, IDS), noise=model.draw_noise(RNG, DROPPING, (2, 4))), ValueError,
     r"noise\.decoder\.first must have shape \(2, 5, 4\), got \(2, 4, 4\)"),
    (lambda: loss(snp.Batch(IDS, IDS), noise=noisy(hidden=IDS > 3)), ValueError,
     r"noise\.decoder\.blocks\[0\]\.hidden must have shape \(10, 5\), got \(2, 5\)"),
    (lambda: loss(snp.Batch(IDS, IDS), noise=noisy(cross_out=IDS > 3)), ValueError,
     r"noise\.decoder\.blocks\[0\]\.cross_out must be None in this block, got an array"),
    (lambda: loss(snp.Batch(IDS, IDS), noise=noisy()._replace(decoder=StackNoise(
        blocks=(BlockNoise(),)))), ValueError, r"noise\.decoder\.blocks must be 3, one per block"),
    (lambda: snp.ModelConfig(num_layers=0), ValueError, "num_layers must be at least 1"),
    (lambda: snp.ModelConfig(init_scale=-0.5), ValueError, "init_scale must be finite, at least 0"),
    (lambda: snp.ModelConfig(switch={}), TypeError, "switch must be a SwitchConfig, got {}"),
    (lambda: snp.ModelConfig(dropout=1.0), ValueError, "dropout must be finite, at least 0 and be"),
    (lambda: snp.ModelConfig.from_dict({"d_model": 3}), ValueError, "model config must have the k"),
    (lambda: generate.generate(WEIGHTS, MODEL, np.array([9]), 1, RNG), ValueError,
     "prompt must lie in 0 .. 6, got 9"),
    (lambda: generate.generate(WEIGHTS, MODEL, np.array([1]), 1, RNG, top_k=0), ValueError,
     "top_k must be at least 1, got 0"),
    (lambda: decode(IDS - 7), ValueError, "ids must lie in 0 .. 6, got -"),
    (lambda: decode(IDS - 7, past=decode()[1]), ValueError, "ids must lie in 0 .. 6, got -"),
    (lambda: decode(params=WEIGHTS), ValueError, "params must have the keys"),
    (lambda: decode(memory=None), ValueError, r"memory must be what `encode` returns .* got None"),
    (lambda: decode(memory=MEMORY[:1]), ValueError, r"memory must have shape \(2, M, 4\), got"),
    (lambda: decode(memory=MEMORY.astype(np.float32)), TypeError, "memory must be float64 like"),
    (lambda: decode(memory_padding=IDS > 0), ValueError, r"memory_padding must have shape \(2, 3"),
    (lambda: model.decode(WEIGHTS, IDS, MODEL, memory=MEMORY), ValueError,
     "memory must be None for a decoder-only model, got an array"),
    (lambda: model.decode(WEIGHTS, IDS, MODEL, memory_padding=IDS > 0), ValueError,
     "memory_padding must be None without a memory"),
    (lambda: model.encode(WEIGHTS, IDS, MODEL), ValueError, "source must be None for a decoder-o"),
    (lambda: CONFIG.differences("x"), TypeError, "other must be a SwitchConfig, got 'x'"),
    (lambda: snp.SwitchConfig.like("nobody"), ValueError, "name must be a preset, got 'nobody'"),
    (lambda: snp.oracle.reference(X, {}, "paper"), ValueError, "params must hold w_router, got "),
    (lambda: adapters.lift(None, "d_y"), TypeError, "d_y must be an array of numbers, got None"),
    (lambda: adapters.lift([X, 1j * X], "d_y"), TypeError, "d_y must hold real numbers, got com"),
    (lambda: snp.oracle.reference(np.ma.array(X), PARAMS, CONFIG), TypeError, "got a MaskedArray"),
    (lambda: snp.oracle.reference(X.view(np.matrix), PARAMS, CONFIG), TypeError, "got a matrix: n"),
    (lambda: snp.oracle.reference(X, PARAMS, CONFIG, balance_coef="1"), TypeError,
     "balance_coef must be a number, got '1'"),
    (lambda: snp.oracle.reference(with_nan(X), PARAMS, CONFIG), ValueError, "x must be finite"),
    (lambda: snp.oracle.reference(X, PARAMS, CONFIG, d_y=X[:2]), ValueError, "d_y must have shape"),
    (lambda: snp.gradcheck.complex_step(lambda x: abs(x).sum(), X), TypeError,
     "f must return one complex number"),
    (lambda: snp.gradcheck.complex_step(lambda x: x.sum(), [1.0]), TypeError, "x must be a NumPy"),
]


SCORES = layer()[0].probs
TOP_2 = snp.SwitchConfig.like("deepspeed_top2", num_experts=3)
TWO = plan.fill(np.array([[0, 1]] * 6), 3, capacity=None)


def draw(config=CONFIG, tokens=6, **options):
    return snp.oracle.draw(config, tokens, 4, 5, **options)


PLANS = [
    (lambda: plan.decide(with_nan(SCORES), CONFIG), ValueError, "scores_TE must be finite, got n"),
    (lambda: plan.decide(SCORES[:, :2], CONFIG), ValueError, r"scores_TE must have shape \(T, 3\)"),
    (lambda: plan.decide(SCORES, TOP_2), ValueError, "config must have the paper's conventions"),
    (lambda: plan.decide(SCORES, CONFIG, num_groups=4), ValueError,
     "num_groups must divide the number of tokens, 6, got 4"),
    (lambda: plan.decide(SCORES, CONFIG, num_groups=0), ValueError, "num_groups must be at least"),
    (lambda: plan.decide(SCORES, CONFIG, padding_T=np.zeros(6, int)), TypeError,
     "padding_T must be a NumPy array of bool, got an array of int64"),
    (lambda: plan.decide(SCORES, CONFIG, padding_T=np.zeros(5, bool)), ValueError,
     r"padding_T must have shape \(6,\), got \(5,\)"),
    (lambda: plan.fill(np.zeros(6, int), 3, capacity=1), ValueError, r"expert_TK .* shape \(T, K"),
    (lambda: plan.fill(np.zeros((6, 1)), 3, capacity=1), TypeError, "expert_TK .* of float64"),
    (lambda: plan.fill(np.array([[3]]), 3, capacity=1), ValueError, "expert_TK must lie in 0 .. 2"),
    (lambda: plan.fill(PLAN.expert, 3, capacity=-1), ValueError, "capacity must be at least 0"),
    (lambda: plan.fill(PLAN.expert, 3, capacity=1, layout="dense"), ValueError, "layout must be o"),
    (lambda: plan.fill(PLAN.expert, 3, capacity=1, num_groups=5), ValueError, "num_groups must di"),
    (lambda: plan.margins(SCORES[:5], PLAN), ValueError, r"scores_TE must have shape \(6, 3\)"),
    (lambda: plan.margins(SCORES, PLAN, CONFIG, logit=1), TypeError, "unexpected .*'logit'"),
    (lambda: plan.margins(SCORES, TWO, TOP_2), ValueError,
     "noise.second must be given with second_choice='sampled', got None"),
    (lambda: plan.margins(SCORES, TWO, snp.SwitchConfig.like("mesh_tf_top2", num_experts=3)),
     ValueError, "noise.policy must be given with second_policy='random', got None"),
    (lambda: plan.margins(SCORES, PLAN, snp.SwitchConfig.like(
        "hf_deepseek_v3", num_experts=3, top_k=1, select_groups=1, select_groups_kept=1)),
     ValueError, "bias_E must be given with select_bias=True, got None"),
    (lambda: draw(tokens=-1), ValueError, "num_tokens must be at least 0, got -1"),
    (lambda: draw(padding=7), ValueError, "padding must be at most 6, the number of tokens, got 7"),
    (lambda: draw(unused=3), ValueError, "unused must be at most 2, the experts that a token need"),
    (lambda: draw(replace(CONFIG, top_k=3), unused=1), ValueError, "unused must be at most 0, the"),
    (lambda: draw(batch=0), ValueError, "batch must be at least 1, got 0"),
    (lambda: draw(batch=4), ValueError, "batch must divide num_tokens, 6, got 4"),
]


@pytest.mark.parametrize("call, error, words", LAYER + MODELS + PLANS)
def test_the_message_names_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()
