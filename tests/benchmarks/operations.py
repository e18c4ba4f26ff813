"""The operations by which a layer and a training step are broken down: which functions each is.

A part is (operation, phase), written "router forward"; a function's phase is said by its name.
"""

from __future__ import annotations

SWITCH = "switch_np.switch."
CONVENTIONS = "switch_np.conventions."
TRANSFORMER = "switch_np.transformer."


def both(operation: str, *modules: str) -> dict[str, tuple[str, ...]]:
    """Return the two parts of an operation whose functions are `forward` and `backward`.

    >>> both("gates", "switch_np.switch.gates")["gates backward"]
    ('switch_np.switch.gates:backward',)
    """
    return {f"{operation} {phase}": tuple(f"{module}:{phase}" for module in modules)
            for phase in ("forward", "backward")}


LAYER = {
    "checks forward": (CONVENTIONS + "arguments:checked", CONVENTIONS + "noise:noise_for"),
    **both("router", SWITCH + "router"),
    "plan forward": (SWITCH + "layer:decide",),
    **both("gates", SWITCH + "gates"),
    **both("dispatch", SWITCH + "dispatch"),
    **both("experts", SWITCH + "experts"),
    **both("combine", SWITCH + "combine"),
    **both("losses", SWITCH + "balance_loss", SWITCH + "z_loss"),
}

STEP = {
    **both("embedding", TRANSFORMER + "embedding"),
    **both("position bias", TRANSFORMER + "position_bias"),
    **both("norm", TRANSFORMER + "norm"),
    **both("attention", TRANSFORMER + "attention"),
    **both("dense feed-forward", TRANSFORMER + "dense"),
    **both("switch layer's own", SWITCH + "layer"),
    **LAYER,
    **both("head", TRANSFORMER + "head"),
    **both("cross-entropy", TRANSFORMER + "cross_entropy"),
    "clip update": ("switch_np.training.optimizer:clip",),
    "optimizer update": ("switch_np.training.optimizer:step",),
}

# What a router costs a layer beside its experts.
ROUTING = ("router", "plan", "gates", "dispatch", "combine", "losses")


def split(part: str) -> tuple[str, str]:
    """Return operation and phase.

    >>> split("switch layer's own backward"), split("the rest")
    (("switch layer's own", 'backward'), ('the rest', ''))
    """
    operation, _, phase = part.rpartition(" ")
    return (operation, phase) if phase in ("forward", "backward", "update") else (part, "")
