"""Wrong values for every argument of every public call: refused by name, or right where legal.

The calls are found from `switch_np.__all__`, the values made from each signature. What a call
returns is right by other tests; here a value that it takes must be of the kind that it says.
"""

import inspect
import types
import typing
from dataclasses import is_dataclass
from numbers import Integral, Real

import numpy as np
import pytest
from support import TINY

import switch_np as snp
from switch_np import model

CONFIG = snp.SwitchConfig(num_experts=3)
MODEL = snp.ModelConfig(**TINY, switch=CONFIG)
BOTH = snp.ModelConfig(**TINY, num_encoder_layers=1)
RNG = np.random.default_rng(0)
PARAMS = snp.switch_layer.init(RNG, 4, 5, CONFIG)
X = RNG.standard_normal((6, 4))
OUT, CACHE = snp.switch_layer.forward(PARAMS, X, CONFIG)
WEIGHTS, BOTH_WEIGHTS = model.init(RNG, MODEL), model.init(RNG, BOTH)
IDS = RNG.integers(0, 7, (2, 5))
BATCH = snp.Batch(IDS, IDS)
LOGITS, _, MODEL_CACHE = model.forward(WEIGHTS, IDS, MODEL)
LAYER = dict(params=PARAMS, x=X, config=CONFIG)
ASKED = snp.oracle.draw(CONFIG, 6, 4, 5)
REF = snp.oracle.reference(**ASKED)


def square(x):
    return (x ** 2).sum()


def power(inputs):
    return inputs.get("x", X) ** 2, inputs.get("x", X)


def power_backward(d_y, x):
    return {"x": 2 * x * d_y}


# Right arguments for every call; those left out have defaults.
RIGHT = {
    "Conventions": {}, "ModelConfig": {}, "SwitchConfig": {}, "presets": {},
    "experiments.load": dict(name="noise"), "experiments.read": dict(name="noise"),
    "experiments.claims": dict(name="noise"),
    "experiments.confirm": dict(name="noise", claim="sampling", grade="holds"),
    "experiments.run_live": dict(name="noise", arm="argmax", steps=1),
    "gradcheck.complex_step": dict(f=square, x=X), "gradcheck.compare": dict(
        name="x", got=X, want=X),
    "gradcheck.central_difference": dict(f=square, x=X),
    "gradcheck.check_backward": dict(
        forward=power, backward=power_backward, inputs={"x": X}, rng=RNG),
    "model.init": dict(rng=RNG, config=MODEL),
    "model.draw_noise": dict(rng=RNG, config=MODEL, batch_shape=(2, 5)),
    "model.forward": dict(params=WEIGHTS, ids=IDS, config=MODEL),
    "model.encode": dict(params=BOTH_WEIGHTS, source=IDS, config=BOTH),
    "model.decode": dict(params=WEIGHTS, ids=IDS, config=MODEL),
    "model.backward": dict(d_logits=LOGITS, cache=MODEL_CACHE),
    "model.loss": dict(params=WEIGHTS, batch=BATCH, config=MODEL),
    "model.loss_and_grads": dict(params=WEIGHTS, batch=BATCH, config=MODEL),
    "oracle.assert_matches": dict(ref=REF, got={"y": REF.y}),
    "oracle.combine": dict(rows=X, gates=X[:, :1], plan=OUT.plan, num_experts=CONFIG.num_experts),
    "oracle.dispatch": dict(x=X, plan=OUT.plan, num_experts=CONFIG.num_experts),
    "oracle.grouped_product": dict(rows=X, group_sizes=np.array([2, 4]),
                                   weights=np.ones((2, 4, 3))),
    "oracle.certify": dict(ref=REF), "oracle.compare": dict(ref=REF, y=REF.y),
    "oracle.compare_routing": dict(scores=OUT.probs, expert=OUT.plan.expert),
    "oracle.draw": dict(config=CONFIG, num_tokens=6, d_model=4, d_ff=5),
    "oracle.reference": ASKED, "oracle.score": dict(test=lambda layer: None),
    "oracle.weights": dict(family="mixtral", source={
        "gate.weight": X[:3], "experts.gate_up_proj": np.ones((3, 2, 4)),
        "experts.down_proj": np.ones((3, 4, 1))}),
    "oracle.to_numpy": dict(value=X), "oracle.museum.planted": {},
    "oracle.museum.run": dict(name=None, **{name: ASKED[name] for name in (
        "x", "params", "config", "d_y")}),
    "oracle.museum.recognise": dict(evidence=None), "oracle.museum.flat": dict(result=None),
    "oracle.vectors.read": dict(path="x.npz"), "oracle.vectors.load": dict(path="x.npz"),
    "oracle.vectors.pack": dict(case=None), "oracle.vectors.write": dict(folder="x", names=["a"]),
    "oracle.vectors.verify": dict(got="x.npz", case="x.npz"),
    "plans.check_plan": dict(plan=OUT.plan, config=CONFIG, num_tokens=6, num_groups=1),
    "plans.contested": dict(plan=OUT.plan),
    "plans.decide": dict(scores_TE=OUT.probs, config=CONFIG),
    "plans.fill": dict(expert_TK=OUT.plan.expert, num_experts=3, capacity=2),
    "plans.from_choices": dict(expert=OUT.plan.expert, config=CONFIG),
    "plans.margins": dict(scores_TE=OUT.probs, plan=OUT.plan, config=CONFIG),
    "switch_layer.init": dict(rng=RNG, d_model=4, d_ff=5, config=CONFIG),
    "switch_layer.in_precision": dict(params=PARAMS, experts="bfloat16", router=None),
    "switch_layer.shapes": dict(d_model=4, d_ff=5, config=CONFIG),
    "switch_layer.forward": LAYER, "switch_layer.backward": dict(d_y=X, cache=CACHE),
}
LONG = {("oracle.vectors.write", "names", None)}           # legal, and other tests' business
WRONG = [None, "x", [], {}, object(), np.nan, np.inf, -1, 0, 10**30, 1.5, True, np.array(["x"]),
         np.array([object()]), np.full((2, 2), np.nan), np.zeros(0), np.zeros((2, 3, 4, 5), int)]


ANY_RIGHT = {np.ndarray: X, int: 1, float: 1.0, str: "x", bytes: b"x", bool: True}


def picture(call):
    """Return arguments of the right kinds; nothing is drawn, as one of them is always wrong."""
    hints = typing.get_type_hints(call)
    return {name: ANY_RIGHT.get(typing.get_origin(hints[name]) or hints[name], {})
            for name, parameter in inspect.signature(call).parameters.items()
            if parameter.default is parameter.empty and name in hints}


def public(module, name):
    """Yield the public functions of a module by dotted name, and the classes that check."""
    for each in getattr(module, "__all__", [key for key in vars(module) if key[0] != "_"]):
        value = getattr(module, each)
        if isinstance(value, types.ModuleType):
            if "__all__" in vars(module):
                yield from public(value, f"{name}{each}.")
        elif (inspect.isfunction(value) or hasattr(value, "__post_init__")) and (
                "__all__" in vars(module) or value.__module__ == module.__name__):
            yield name + each, value


CALLS = dict(public(snp, ""))
PICTURES = {path: picture(call) for path, call in CALLS.items() if path.startswith("plots.")}
RIGHT |= PICTURES | {f"oracle.{path}": right for path, right in RIGHT.items()
                     if path.startswith("gradcheck.")}
FORMULAS = {"oracle.museum.run", "oracle.museum.flat", *PICTURES}    # of these, kinds alone


def of_kind(value, hint):
    """Whether a value is of the kind that an annotation says."""
    if hint is typing.Any or np.dtype in map(typing.get_origin, typing.get_args(hint)):
        return True
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(of_kind(value, each) for each in typing.get_args(hint))
    kind = typing.get_origin(hint) or hint
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, kind)


def values(path, name, hint):
    """Yield wrong values for one argument: of any kind, and arrays that are nearly right."""
    right = RIGHT[path]
    yield from (value for value in WRONG if not (path in FORMULAS and of_kind(value, hint))
                and not (value is None and (path, name, None) in LONG))
    if isinstance(right.get(name), np.ndarray) and path not in FORMULAS:
        array = right[name]
        yield from (array[None, None], array[:-1], array.astype(object), array.astype(str),
                    array.astype(np.float16), array.astype(complex) * 1j,
                    np.full(array.shape, np.nan), np.ma.array(array))


def failures(path):
    call, right = CALLS[path], RIGHT[path]
    hints = typing.get_type_hints(call.__init__ if is_dataclass(call) else call)
    names = inspect.signature(call).parameters
    for name, parameter in names.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        hint = hints.get(name, typing.Any)
        for value in values(path, name, hint):
            told = " ".join(f"{path}({name}={value!r:.60}): ".split())
            try:
                call(**{**right, name: value})
            except (ValueError, TypeError) as error:
                said = str(error)
                if not (any(each.removesuffix("s") in said for each in names)
                        or (isinstance(value, str) and said.startswith(value))):
                    yield told + f"{type(error).__name__}: {error!s:.200}"
            except AssertionError:                  # what a check is there to say
                pass
            except FileNotFoundError:               # it names the file
                pass
            except Exception as error:
                yield told + f"{type(error).__name__}: {error!s:.100}"
            else:
                if not of_kind(value, hint):
                    yield told + "was taken"


def test_every_call_has_right_arguments():
    assert set(CALLS) - set(RIGHT) == set()


@pytest.mark.parametrize("path", sorted(set(CALLS) & set(RIGHT)))
def test_a_wrong_value_is_refused_by_name(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(snp.experiments.runner, "complete", lambda *_: "done")
    found = list(failures(path))
    assert not found, "\n".join(found)
