"""What a config computes, in words: one topic and one saying per field, for `differences`.

A saying is either a text with a place for the value, or a dict from value to text.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from switch_np.switch.config import SwitchConfig

YES_NO = {True: "yes", False: "no"}

WORDS: dict[str, tuple[str, str | dict[Any, str]]] = {
    "num_experts": ("Experts", "{}"),
    "top_k": ("Experts chosen per token", "{}"),
    "capacity_factor": ("Capacity factor", {None: "none, no token is dropped"}),
    "eval_capacity_factor": ("Capacity factor in evaluation", {
        "same": "as in training", None: "none, no token is dropped"}),
    "min_capacity": ("Least capacity that a factor gives", "{} slots"),
    "capacity": ("Absolute capacity", {None: "none, the factor counts"}),
    "capacity_per_choice": ("The capacity factor is multiplied by K", YES_NO),
    "groups": ("Tokens that share buffers", {
        "all": "all of a call", "rows": "those of one sequence", int: "one of {} groups"}),
    "router_bias": ("The router has a bias", YES_NO),
    "jitter": ("Jitter of the router's input", {0.0: "none", float: "U(1 - {0}, 1 + {0})"}),
    "router_dropout": ("Dropout on the router's input", {0.0: "none", float: "{}"}),
    "sample": ("Experts are drawn from the softmax in training", YES_NO),
    "expert_dropout": ("Dropout inside the experts", {0.0: "none", float: "{}"}),
    "layout": ("Rows of the experts", {
        "packed": "the kept ones alone", "buffers": "buffers of fixed size, filled with zeros"}),
    "scores": ("Scores", {
        "softmax": "softmax of the logits", "sigmoid": "sigmoid of each logit alone",
        "sqrtsoftplus": "root of the softplus of each logit"}),
    "chooser": ("Who chooses", {
        "tokens": "tokens their experts", "experts": "experts their tokens"}),
    "select_bias": ("A bias without gradient is added for the choice alone", YES_NO),
    "select_groups": ("Groups of experts", "{}"),
    "select_groups_kept": ("Groups a token may choose from", "{}"),
    "select_precision": ("Scores are rounded before the choice", {
        "same": "no", "float16": "to float16", "bfloat16": "to bfloat16"}),
    "second_choice": ("Later choices", {
        "largest": "the next largest scores", "sampled": "drawn by Gumbel noise on the logits"}),
    "second_policy": ("Later choices are asked for", {
        "all": "always", "none": "never", "threshold": "above a threshold",
        "random": "at random, more often the larger their gate"}),
    "second_threshold": ("Threshold of later choices", "{}"),
    "second_compare": ("Held against that threshold", {
        "gate": "the renormalised gate", "score": "the score"}),
    "logit_noise": ("Noise on the logits", {
        "none": "none", "normal": "normal", "gumbel": "Gumbel",
        "learned": "normal, of a learned width"}),
    "logit_noise_scale": ("Scale of the noise on the logits", "{}"),
    "noise_when": ("Jitter and noise on the logits are there", {
        "training": "in training", "always": "in evaluation too"}),
    "jitter_reach": ("The jitter meets", {
        "router": "the router alone", "experts": "router and experts"}),
    "capacity_rounding": ("Capacity is rounded", {
        "floor": "down", "ceil": "up", "half_even": "to the nearest, halves to even"}),
    "capacity_whole_share": ("Tokens per expert are rounded up before the factor", YES_NO),
    "capacity_at_most_group": ("Capacity is at most the group's size", YES_NO),
    "capacity_multiple_of": ("Capacity is a multiple of", "{}"),
    "capacity_unused": ("Slots of each buffer that are never filled", "{}"),
    "eval_capacity_fraction": ("Capacity in evaluation, as a share of the tokens", {
        None: "none, the factor counts"}),
    "priority": ("Served first", {
        "choice": "first choices by position, then second ones",
        "token": "tokens by position, all their choices together",
        "batch": "first choices of the surest tokens, then second ones",
        "gate": "the largest scores",
        "weight": "the largest gates, divided before any drop",
        "logit_or_zero": "the largest logits, with a 0 for every token that chose another expert",
        "random": "whom noise picks"}),
    "slots": ("Slots are numbered", {"queue": "as choices were served", "position": "by token"}),
    "padding_routing": ("Padding", {
        "left_out": "is not routed", "routed": "is routed like any token",
        "first_experts": "asks for the first experts with score 0"}),
    "renorm": ("Gates", {
        "none": "the scores as they are",
        "pre": "the scores over the sum of all chosen, dropped or not",
        "post": "the scores over the sum of those kept"}),
    "renorm_eps": ("Epsilon in that sum", {"finfo": "the precision's own", float: "{}"}),
    "renorm_eps_mode": ("That epsilon is", {"add": "added", "clamp": "a lower bound"}),
    "renorm_power": ("Power of the norm that divides", "{}"),
    "renorm_single": ("A single choice is divided by itself", YES_NO),
    "gate_scale": ("Gates are multiplied by", "{}"),
    "gate_gradient": ("Gates have", {
        "normal": "value and gradient", "unit": "value 1 and the gradient of their logarithm"}),
    "gate_at": ("Gates multiply", {
        "output": "the experts' output", "input": "the experts' input",
        "both": "the experts' input and output"}),
    "dispatch_gradient": ("The dispatch sends gates a gradient", {
        "stop": "no", "straight_through": "yes, straight through"}),
    "dropped": ("A dropped token gets", {
        "zero": "0", "identity": "itself", "gated_identity": "itself times its gate"}),
    "balance_counts": ("f counts", {
        "first": "first choices", "all": "all choices", "all_over_k": "all choices, over K",
        "plain_over_k": "the K best scores, without bias and groups, over K",
        "none": "nothing: no balance loss"}),
    "balance_drops": ("f counts", {
        "pre": "dropped choices too", "post": "kept choices alone",
        "post_as_0": "every dropped token as one of expert 0"}),
    "balance_probs": ("P is the mean of", {
        "full": "the scores", "chosen": "the chosen scores over their sum",
        "normalised": "the scores over their sum"}),
    "balance_padding": ("Padding in the balance loss", {
        "mask_valid": "counts nowhere", "include": "counts like any token",
        "mask_full": "counts in the divisors alone", "mask_f": "is left out of f alone",
        "mask_p": "is left out of P alone",
        "real_fraction": "counts everywhere, and the share of real tokens multiplies the loss"}),
    "balance_when": ("The balance loss is there", {"always": "always", "training": "in training"}),
    "second_balance": ("Second choices have a balance loss too", YES_NO),
    "z_padding": ("Padding in the z-loss", {
        "valid": "counts nowhere", "include": "counts like any token",
        "zero_logits": "counts as a token with logits 0"}),
    "z_when": ("The z-loss is there", {
        "always": "always", "training": "in training", "never": "never"}),
    "expert_activation": ("Activation", {
        "relu": "ReLU", "gelu": "GELU", "gelu_tanh": "GELU by its tanh formula", "silu": "SiLU"}),
    "expert_gated": ("Hidden units are gated", YES_NO),
    "expert_biases": ("Experts have biases", YES_NO),
    "expert_hidden_scale": ("Hidden units have a learned scale", YES_NO),
    "shared_experts": ("Shared experts", "{}"),
    "shared_bias": ("A bias that all tokens share", YES_NO),
}


def say(name: str, value: Any) -> str:
    """Return what a field's value means.

    >>> say("capacity_rounding", "ceil"), say("capacity_factor", 1.25)
    ('up', '1.25')
    """
    sayings = WORDS[name][1]
    if isinstance(sayings, str):
        return sayings.format(value)
    if value in sayings:
        return sayings[value]
    kind = int if isinstance(value, int) else float
    return sayings.get(kind, "{}").format(value)


def differences(mine: SwitchConfig, other: SwitchConfig) -> list[str]:
    """Return a sentence for every field in which two configs differ."""
    pairs = [(mine, other), (mine.conventions, other.conventions)]
    found = []
    for a, b in pairs:
        for name in (f.name for f in fields(a) if f.name != "conventions"):
            if getattr(a, name) != getattr(b, name):
                found.append(f"{WORDS[name][0]}: {say(name, getattr(a, name))}; the other: "
                             f"{say(name, getattr(b, name))}.")
    return found


