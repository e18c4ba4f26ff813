"""What other libraries do differently from the paper: one frozen value; its defaults are the paper.

Facts: the libraries' own sources; `presets` says which version of each. Every knob is one decision,
independent of the others, and says who needs it. The discrete ones act in the plan alone, the
smooth ones have a backward of their own in `variants`; the paper's path reads none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from switch_np.operations import check

CHOICES = {
    "scores": ("softmax", "sigmoid", "sqrtsoftplus"),
    "chooser": ("tokens", "experts"),
    "select_precision": ("same", "float16", "bfloat16"),
    "second_choice": ("largest", "sampled"),
    "second_policy": ("all", "none", "threshold", "random"),
    "second_compare": ("gate", "score"),
    "logit_noise": ("none", "normal", "gumbel", "learned"),
    "noise_when": ("training", "always"),
    "jitter_reach": ("router", "experts"),
    "capacity_rounding": ("floor", "ceil", "half_even"),
    "priority": ("choice", "token", "batch", "gate", "weight", "logit_or_zero", "random"),
    "slots": ("queue", "position"),
    "padding_routing": ("left_out", "routed", "first_experts"),
    "renorm": ("none", "pre", "post"),
    "renorm_eps_mode": ("add", "clamp"),
    "gate_gradient": ("normal", "unit"),
    "gate_at": ("output", "input", "both"),
    "dispatch_gradient": ("stop", "straight_through"),
    "dropped": ("zero", "identity", "gated_identity"),
    "balance_counts": ("first", "all", "all_over_k", "plain_over_k", "none"),
    "balance_drops": ("pre", "post", "post_as_0"),
    "balance_probs": ("full", "chosen", "normalised"),
    "balance_padding": ("mask_valid", "include", "mask_full", "mask_f", "mask_p", "real_fraction"),
    "balance_when": ("always", "training"),
    "z_padding": ("valid", "include", "zero_logits"),
    "z_when": ("always", "training", "never"),
    "expert_activation": ("relu", "gelu", "gelu_tanh", "silu"),
}


@dataclass(frozen=True)
class Conventions:
    """The knobs that only other libraries need, validated when made.

    Parameters
    ----------
    scores
        What the router makes of its logits: "softmax"; "sigmoid" of each alone (DeepSeek-V3,
        Megatron); "sqrtsoftplus" (Megatron).
    chooser
        Who chooses: "tokens"; "experts": each takes the tokens of a group that score best, as many
        as its capacity allows (Flaxformer's expert choice). `top_k` is not used then.
    select_bias
        A parameter `select_bias` (E,) is added to the scores for the choice alone; it has no
        gradient (DeepSeek-V3, Megatron).
    select_groups, select_groups_kept
        The experts form this many groups; a token may choose from so many of them, those whose two
        best experts score most together (DeepSeek-V3, Megatron).
    select_precision
        Scores are rounded to this precision before the choice, so that near ones tie and the lowest
        index wins (transformers: the probabilities go back to the input's precision first).
    second_choice
        "largest" score; "sampled": the later choices are the largest of logits + Gumbel noise, in
        evaluation too (DeepSpeed and fairseq with k = 2).
    second_policy
        Which of the later choices are asked for: "all"; "none"; "threshold": those above
        `second_threshold`; "random": with probability gate / threshold (Mesh TensorFlow, fairseq,
        lucidrains), in evaluation too.
    second_threshold, second_compare
        The threshold, and what is held against it: the "gate", renormalised before any drop, or the
        "score" (fairseq).
    logit_noise, logit_noise_scale
        Noise added to the logits, with effect on choice, gates and losses: "normal" (Tutel),
        "gumbel" (ST-MoE in PyTorch), "learned": normal, times softplus(x w_noise) (nanoMoE).
    noise_when
        Jitter, router dropout and logit noise: in "training", or "always" (Megatron, nanoMoE).
    jitter_reach
        The jitter meets the "router" alone, or the "experts" too (transformers, where it
        multiplies in place).
    capacity_rounding
        How factor * n / E becomes whole: "floor"; "ceil" (DeepSpeed, Megatron); "half_even"
        (Flaxformer).
    capacity_whole_share
        n / E is rounded up first, and K multiplies last: K * round(factor * ceil(n / E)) (Tutel,
        fairseq).
    capacity_at_most_group
        A factor gives no more slots than the group has tokens (Mesh TensorFlow, lucidrains). Says
        nothing but how large the buffers are.
    capacity_multiple_of
        Rounded up to a multiple of this (Tutel's alignment; nanoMoE: 2).
    capacity_unused
        Slots that are there but never filled (1: the paper's printed pseudo-code, Keras' example).
    eval_capacity_fraction
        Outside training the capacity is this share of the group's tokens, rounded up (fairseq: a
        quarter; NLLB: all). None: `eval_capacity_factor` counts.
    priority
        Who is served first: "choice": all first choices by position, then all second; "token": a
        token's choices together (MegaBlocks; DeepSpeed's "position"); "batch": as "choice", but
        tokens with a larger best score first (batch-prioritised routing: Flaxformer, Tutel);
        "gate": the largest scores (DeepSpeed for k > 2); "weight": the largest gates, divided as
        `renorm` says before any is dropped (Megatron); "logit_or_zero": the largest logits, where
        every token that did not choose the expert stands in the queue with a 0 (DeepSpeed for k > 2
        before its pull request 7986: a token with a negative logit loses its slot to one that did
        not choose the expert, and the slot stays empty); "random": noise decides (DeepSpeed with
        k = 1, labml).
    slots
        Kept choices are numbered as they were served, "queue", or by token, "position" (DeepSpeed).
        Changes slot numbers only, no output.
    padding_routing
        Padding is "left_out"; "routed" like any token, into slots and outputs (transformers,
        Megatron and most others, which know no padding here); or asks for the "first_experts",
        K of them, with score 0 (Flaxformer's scatter router).
    renorm
        Gates are the chosen scores as they are, "none", or divided by their sum, over all chosen
        ("pre": top-2 gates) or over those that were kept ("post": DeepSpeed, fairseq).
    renorm_eps, renorm_eps_mode, renorm_power
        A number added to the sum, or below which it does not fall; "finfo": the precision's own
        epsilon. The power p of the norm that divides (MegaBlocks: (Σ g^p)^(1/p)).
    renorm_single
        Divide with one choice too: the gate is then 1 and the router learns nothing from the main
        loss (Mixtral, nanoMoE).
    gate_scale
        Gates are multiplied by this (DeepSeek-V3: 2.5).
    gate_gradient
        "normal"; "unit": the gate is g / g with the lower one held fixed, so 1 with the gradient of
        its logarithm (labml without `is_scale_prob`).
    gate_at
        The gate multiplies the experts' "output", their "input" (Tutel, Megatron), or "both"
        (Keras' example).
    dispatch_gradient
        "stop": the copy into the buffers carries no gradient to the gates; "straight_through": it
        does, as if the gate multiplied there (ST-MoE in PyTorch).
    dropped
        What a token gets of which no choice was kept: "zero", "identity": itself, or
        "gated_identity": itself times its gates (transformers up to 4.5x, labml).
    balance_counts
        The choices that f counts: "first"; "all" (Flaxformer, transformers, nanoMoE: the loss is K
        where all is even); "all_over_k", divided by K (MegaBlocks, DeepSpeed for k > 2);
        "plain_over_k": the same of the K best scores without bias, groups and drops (Megatron);
        "none": there is no such loss (DeepSeek-V3).
    balance_drops
        f counts before drops, "pre", after them, "post" (ST-MoE in PyTorch), or with every dropped
        token as one of expert 0, "post_as_0" (transformers 4).
    balance_probs
        P is the mean of the scores, "full"; of the "chosen" ones, divided by their sum (nanoMoE);
        or of all, "normalised" to sum 1 (Megatron with sigmoid).
    balance_padding
        Where padding counts: nowhere, "mask_valid"; like any token, "include"; in the divisors
        alone, "mask_full" (Mesh TensorFlow's top-2, Flaxformer); in P and the divisors, "mask_f"
        (DeepSpeed, fairseq); in f and the divisors, "mask_p" (Flaxformer's scatter router);
        everywhere, and the group's loss is multiplied by its share of real tokens, "real_fraction"
        (Mesh TensorFlow's switch gating).
    balance_when, z_when
        The loss is there "always", in "training" alone and otherwise 0 (ST-MoE in PyTorch; Mesh
        TensorFlow's z-loss), or "never".
    second_balance
        Half of another balance loss, of the second choices and of the scores without the first, is
        added (Mesh TensorFlow's `moe_use_second_place_loss`).
    z_padding
        The z-loss is a mean over the real tokens, "valid"; over all, "include"; or over all, with
        log E in place of padding's log Z, "zero_logits" (Flaxformer).
    expert_activation
        "relu"; "silu" (Mixtral, DeepSeek-V3); "gelu"; "gelu_tanh", its usual approximation.
    expert_gated
        The hidden activation is act(x w_gate) * (x w_in) (SwiGLU, GEGLU).
    expert_biases
        Experts have `b_in`, `b_out` and, if gated, `b_gate` (labml, fairseq, Tutel).
    expert_hidden_scale
        The hidden activation is multiplied by `hidden_scale` (E, F) (ST-MoE in PyTorch).
    shared_experts
        One more expert that takes every token and has no gate, as wide as this many (DeepSeek-V3).
    shared_bias
        A bias `shared_b_out` (D,) is added to every output, with no gate (MegaBlocks).

    Examples
    --------
    >>> Conventions(renorm="pre", renorm_eps=1e-9).renorm
    'pre'
    >>> Conventions(renorm="both")
    Traceback (most recent call last):
    ValueError: renorm must be one of 'none', 'pre', 'post', got 'both'
    """

    scores: str = "softmax"
    chooser: str = "tokens"
    select_bias: bool = False
    select_groups: int = 1
    select_groups_kept: int = 1
    select_precision: str = "same"
    second_choice: str = "largest"
    second_policy: str = "all"
    second_threshold: float = 0.2
    second_compare: str = "gate"
    logit_noise: str = "none"
    logit_noise_scale: float = 1.0
    noise_when: str = "training"
    jitter_reach: str = "router"
    capacity_rounding: str = "floor"
    capacity_whole_share: bool = False
    capacity_at_most_group: bool = False
    capacity_multiple_of: int = 1
    capacity_unused: int = 0
    eval_capacity_fraction: float | None = None
    priority: str = "choice"
    slots: str = "queue"
    padding_routing: str = "left_out"
    renorm: str = "none"
    renorm_eps: float | str = 0.0
    renorm_eps_mode: str = "add"
    renorm_power: float = 1.0
    renorm_single: bool = False
    gate_scale: float = 1.0
    gate_gradient: str = "normal"
    gate_at: str = "output"
    dispatch_gradient: str = "stop"
    dropped: str = "zero"
    balance_counts: str = "first"
    balance_drops: str = "pre"
    balance_probs: str = "full"
    balance_padding: str = "mask_valid"
    balance_when: str = "always"
    second_balance: bool = False
    z_padding: str = "valid"
    z_when: str = "always"
    expert_activation: str = "relu"
    expert_gated: bool = False
    expert_biases: bool = False
    expert_hidden_scale: bool = False
    shared_experts: int = 0
    shared_bias: bool = False

    def __post_init__(self) -> None:
        for name, options in CHOICES.items():
            check.choice(name, getattr(self, name), options)
        for name in ("select_bias", "capacity_whole_share", "capacity_at_most_group",
                     "renorm_single", "second_balance", "expert_gated", "expert_biases",
                     "expert_hidden_scale", "shared_bias"):
            check.flag(name, getattr(self, name))
        for name in ("select_groups", "select_groups_kept", "capacity_multiple_of"):
            check.integer(name, getattr(self, name), 1)
        for name in ("capacity_unused", "shared_experts"):
            check.integer(name, getattr(self, name), 0)
        for name in ("second_threshold", "logit_noise_scale"):
            check.number(name, getattr(self, name), 0)
        check.number("gate_scale", self.gate_scale)
        check.number("renorm_power", self.renorm_power, 1)
        if self.eval_capacity_fraction is not None:
            check.number("eval_capacity_fraction", self.eval_capacity_fraction, 0, 1e200)
        if isinstance(self.renorm_eps, str):
            check.choice("renorm_eps", self.renorm_eps, ["finfo"])
        else:
            check.number("renorm_eps", self.renorm_eps, 0)
        if self.select_groups_kept > self.select_groups:
            raise ValueError(f"select_groups_kept must be at most select_groups, "
                             f"{self.select_groups}, got {self.select_groups_kept}")
        if self.dispatch_gradient == "straight_through" and self.gate_at != "output":
            raise ValueError("dispatch_gradient='straight_through' must go with gate_at='output', "
                             f"got {self.gate_at!r}: at the input the gradient flows anyway")
        for name, default in (("select_bias", False), ("select_groups", 1),
                              ("select_precision", "same"), ("second_choice", "largest"),
                              ("second_policy", "all"), ("priority", "choice")):
            if self.chooser == "experts" and getattr(self, name) != default:
                raise ValueError(f"{name} must be {default!r} with chooser='experts', where tokens "
                                 f"choose nothing, got {getattr(self, name)!r}")
        check.plain(self)

    @property
    def always_noisy(self) -> bool:
        """Whether choices hang on random numbers, in training or not."""
        return (self.second_choice == "sampled" or self.second_policy == "random"
                or self.priority == "random")
