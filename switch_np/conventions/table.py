"""The table of conventions: every option that only other libraries need.

Facts: the libraries' own sources, in the versions that `presets` names. Every option is one
decision, independent of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor

from switch_np.conventions import knobs
from switch_np.conventions.knobs import LARGEST, YES_NO, knob

ROUND: dict[str, Callable[[float], int]] = {"floor": floor, "ceil": ceil, "half_even": round}


@knobs.explained
@dataclass(frozen=True)
class Conventions:
    """Options that only other libraries need, validated when made; the defaults are the paper's.

    Examples
    --------
    >>> Conventions(renorm="pre", renorm_eps=1e-9).renorm
    'pre'
    >>> Conventions(renorm="both")
    Traceback (most recent call last):
    ValueError: renorm must be one of 'none', 'pre', 'post', got 'both'
    """

    # The choice of experts.
    scores: str = knob("softmax", "Scores", {
        "softmax": "softmax of the logits", "sigmoid": "sigmoid of each logit",
        "sqrtsoftplus": "square root of the softplus of each logit",
    }, needs={"sigmoid": "DeepSeek-V3, Megatron", "sqrtsoftplus": "Megatron"})
    chooser: str = knob("tokens", "Choice", {
        "tokens": "tokens choose experts", "experts": "experts choose tokens",
    }, needs={"experts": "Flaxformer's expert choice"},
        about="An expert takes the best-scoring tokens of a group, as many as its capacity allows; "
              "`top_k` is then unused.")
    select_bias: bool = knob(
        False, "A bias without gradient affects the choice only", YES_NO,
        needs="DeepSeek-V3, Megatron",
        about="The parameter `select_bias` (E,) is added to the scores.")
    select_groups: int = knob(1, "Groups of experts", "{}", least=1, needs="DeepSeek-V3, Megatron")
    select_groups_kept: int = knob(
        1, "Groups a token may choose from", "{}", least=1, needs="DeepSeek-V3, Megatron",
        about="Those whose two best experts have the largest sum of scores.")
    select_precision: str = knob("same", "Scores are rounded before the choice", {
        "same": "no", "float16": "to float16", "bfloat16": "to bfloat16",
    }, needs="transformers, where the probabilities first return to the input's precision",
        about="Scores that were close then tie, and the lowest index wins.")
    second_choice: str = knob("largest", "Later choices", {
        "largest": "the next largest scores", "sampled": "sampled by Gumbel noise on the logits",
    }, needs={"sampled": "DeepSpeed and fairseq with k = 2"}, about="Sampled in evaluation too.")
    second_policy: str = knob("all", "Later choices are asked for", {
        "all": "always", "none": "never", "threshold": "above a threshold",
        "random": "at random, more often the larger their gate",
    }, needs={"random": "Mesh TensorFlow, fairseq, lucidrains"},
        about="At random: with probability gate / `second_threshold`, in evaluation too.")
    second_threshold: float = knob(0.2, "Threshold of later choices", "{}", least=0)
    second_compare: str = knob("gate", "Compared with that threshold", {
        "gate": "the renormalised gate", "score": "the score",
    }, needs={"score": "fairseq"}, about="The gate is renormalised before any drop.")

    # Noise.
    logit_noise: str = knob("none", "Noise on the logits", {
        "none": "none", "normal": "normal", "gumbel": "Gumbel",
        "learned": "normal, of a learned width",
    }, needs={"normal": "Tutel", "gumbel": "ST-MoE in PyTorch", "learned": "nanoMoE"},
        about="Choice, gates and losses all see it. The learned width is softplus(x w_noise).")
    logit_noise_scale: float = knob(1.0, "Scale of the noise on the logits", "{}", least=0)
    noise_when: str = knob("training", "Jitter and noise on the logits apply", {
        "training": "in training", "always": "in evaluation too",
    }, needs={"always": "Megatron, nanoMoE"},
        about="The same holds for dropout on the router's input.")
    jitter_reach: str = knob("router", "Jitter multiplies the input of", {
        "router": "the router", "experts": "router and experts",
    }, needs={"experts": "transformers, which multiplies in place"})

    # Capacity, and who gets a slot.
    capacity_rounding: str = knob("floor", "Capacity is rounded", {
        "floor": "down", "ceil": "up", "half_even": "to the nearest, halves to even",
    }, needs={"ceil": "DeepSpeed, Megatron", "half_even": "Flaxformer"})
    capacity_whole_share: bool = knob(
        False, "Tokens per expert are rounded up before the factor", YES_NO,
        needs="Tutel, fairseq",
        about="K multiplies last: `K * round(factor * ceil(n / E))`.")
    capacity_at_most_group: bool = knob(
        False, "Capacity is at most the group's size", YES_NO, needs="Mesh TensorFlow, lucidrains",
        about="This limits what a factor gives, and affects only the size of the buffers.")
    capacity_multiple_of: int = knob(
        1, "Capacity is rounded up to a multiple of", "{}", least=1,
        needs="Tutel (its alignment) and nanoMoE (2)")
    capacity_unused: int = knob(
        0, "Slots of each buffer that are never filled", "{}", least=0,
        needs="the paper's printed pseudo-code and Keras' example (1)")
    eval_capacity_fraction: float | None = knob(
        None, "Capacity in evaluation, as a fraction of the tokens", {
            None: "none, the factor applies", float: "{}"}, least=0, below=LARGEST,
        needs="fairseq (a quarter) and NLLB (all)",
        about="The fraction of the group's tokens is rounded up.")
    priority: str = knob("choice", "Order of service", {
        "choice": "first choices by position, then second ones",
        "token": "tokens by position, each with all its choices",
        "batch": "first choices of the most confident tokens, then second ones",
        "gate": "largest scores first",
        "weight": "largest gates first, divided before any drop",
        "logit_or_zero": "largest logits first, against a 0 for every token that chose another "
                         "expert",
        "random": "random",
    }, needs={"token": "MegaBlocks; DeepSpeed's 'position'", "batch": "Flaxformer, Tutel",
              "gate": "DeepSpeed for k > 2", "weight": "Megatron",
              "logit_or_zero": "DeepSpeed for k > 2 before its pull request 7986",
              "random": "DeepSpeed with k = 1, labml"},
        about="The most confident tokens have the largest best score (batch-prioritised routing). "
              "`renorm` says what divides the gates. With 'logit_or_zero' a token with a negative "
              "logit loses its slot to one that did not choose the expert, and the slot stays "
              "empty.")
    slots: str = knob("queue", "Slots are numbered", {
        "queue": "in order of service", "position": "by position of the token",
    }, needs={"position": "DeepSpeed"}, about="Outputs do not depend on it.")
    padding_routing: str = knob("left_out", "Padding", {
        "left_out": "is not routed", "routed": "is routed like any token",
        "first_experts": "asks for the first K experts, with score 0",
    }, needs={"routed": "transformers, Megatron and most others, which know no padding here",
              "first_experts": "Flaxformer's scatter router"},
        about="Routed padding takes slots and has an output.")

    # Gates, and what becomes of dropped tokens.
    renorm: str = knob("none", "Gates", {
        "none": "the scores as they are",
        "pre": "the scores over the sum of all chosen, dropped or not",
        "post": "the scores over the sum of those kept",
    }, needs={"pre": "most top-2 gates", "post": "DeepSpeed, fairseq"})
    renorm_eps: float | str = knob(0.0, "Epsilon in that sum", {
        "finfo": "the machine epsilon", float: "{}"}, least=0)
    renorm_eps_mode: str = knob("add", "That epsilon is", {
        "add": "added", "clamp": "a lower bound"})
    renorm_power: float = knob(
        1.0, "Power of the norm that divides", "{}", least=1, needs="MegaBlocks",
        about="With p it is (Σ g^p)^(1/p); with 1, the sum.")
    renorm_single: bool = knob(
        False, "A single choice is divided by itself", YES_NO, needs="Mixtral, nanoMoE",
        about="Its gate is then 1, and the router learns nothing from the main loss.")
    gate_scale: float = knob(1.0, "Factor of the gates", "{}", needs="DeepSeek-V3 (2.5)")
    gate_gradient: str = knob("normal", "Gates have", {
        "normal": "their own value and gradient",
        "unit": "value 1 and the gradient of their logarithm",
    }, needs={"unit": "labml without `is_scale_prob`"},
        about="A unit gate is g / g with the lower g held fixed.")
    gate_at: str = knob("output", "Gates multiply", {
        "output": "the experts' output", "input": "the experts' input",
        "both": "the experts' input and output",
    }, needs={"input": "Tutel, Megatron", "both": "Keras' example"})
    dispatch_gradient: str = knob("stop", "Gates get a gradient from the dispatch", {
        "stop": "no", "straight_through": "yes, straight through",
    }, needs={"straight_through": "ST-MoE in PyTorch"},
        about="Straight through: as if the gate had multiplied what is copied into the buffers.")
    dropped: str = knob("zero", "A dropped token gets", {
        "zero": "0", "identity": "itself", "gated_identity": "itself times its gate",
    }, needs={"gated_identity": "transformers up to 4.5x, labml"},
        about="A token is dropped if none of its choices was kept.")

    # The balance loss E Σ f P, and the z-loss.
    balance_counts: str = knob("first", "f counts", {
        "first": "first choices", "all": "all choices", "all_over_k": "all choices, divided by K",
        "plain_over_k": "the K best scores, without bias and groups, divided by K",
        "none": "nothing: no balance loss",
    }, needs={"all": "Flaxformer, transformers, nanoMoE: the loss is K where all is even",
              "all_over_k": "MegaBlocks, DeepSpeed for k > 2", "plain_over_k": "Megatron",
              "none": "DeepSeek-V3"},
        about="The K best scores are counted whether dropped or not.")
    balance_drops: str = knob("pre", "Dropped choices in f", {
        "pre": "are counted", "post": "are not counted", "post_as_0": "are counted for expert 0",
    }, needs={"post": "ST-MoE in PyTorch", "post_as_0": "transformers 4"})
    balance_probs: str = knob("full", "P is the mean of", {
        "full": "the scores", "chosen": "the chosen scores over their sum",
        "normalised": "the scores over their sum",
    }, needs={"chosen": "nanoMoE", "normalised": "Megatron with sigmoid"})
    balance_padding: str = knob("mask_valid", "Padding in the balance loss", {
        "mask_valid": "counts nowhere", "include": "counts like any token",
        "mask_full": "counts in the divisors only", "mask_f": "is left out of f only",
        "mask_p": "is left out of P only",
        "real_fraction": "counts everywhere, and the loss is multiplied by the fraction of real "
                         "tokens",
    }, needs={"mask_full": "Mesh TensorFlow's top-2, Flaxformer", "mask_f": "DeepSpeed, fairseq",
              "mask_p": "Flaxformer's scatter router",
              "real_fraction": "Mesh TensorFlow's switch gating"},
        about="The divisors count it, except with 'mask_valid'; the fraction of real tokens is the "
              "group's.")
    balance_when: str = knob("always", "The balance loss is computed", {
        "always": "always", "training": "in training",
    }, needs={"training": "ST-MoE in PyTorch"}, about="In evaluation it is then 0.")
    second_balance: bool = knob(
        False, "Second choices have a balance loss too", YES_NO,
        needs="Mesh TensorFlow's `moe_use_second_place_loss`",
        about="It is made of the second choices and of the scores without the first; half of it is "
              "added.")
    z_padding: str = knob("valid", "Padding in the z-loss", {
        "valid": "counts nowhere", "include": "counts like any token",
        "zero_logits": "counts as a token with logits 0",
    }, needs={"zero_logits": "Flaxformer"},
        about="The z-loss is a mean over the tokens that count; logits 0 give log Z = log E.")
    z_when: str = knob("always", "The z-loss is computed", {
        "always": "always", "training": "in training", "never": "never",
    }, needs={"training": "Mesh TensorFlow, ST-MoE in PyTorch"}, about="Otherwise it is 0.")

    # The experts.
    expert_activation: str = knob("relu", "Activation", {
        "relu": "ReLU", "gelu": "GELU", "gelu_tanh": "GELU's tanh approximation", "silu": "SiLU",
    }, needs={"gelu": "ST-MoE in PyTorch, Megatron, nanoMoE", "gelu_tanh": "MegaBlocks",
              "silu": "Mixtral, DeepSeek-V3"})
    expert_gated: bool = knob(
        False, "Hidden units are gated", YES_NO, needs="Mixtral, DeepSeek-V3, ST-MoE in PyTorch",
        about="They are act(x w_gate) * (x w_in), as in SwiGLU and GEGLU.")
    expert_biases: bool = knob(
        False, "Experts have biases", YES_NO, needs="labml, fairseq, Tutel",
        about="They are `b_in`, `b_out` and, if gated, `b_gate`.")
    expert_hidden_scale: bool = knob(
        False, "Hidden units have a learned scale", YES_NO, needs="ST-MoE in PyTorch",
        about="The parameter `hidden_scale` (E, F) multiplies them.")
    shared_experts: int = knob(
        0, "Shared experts", "{}", least=0, needs="DeepSeek-V3",
        about="Together they are one more network, this many times as wide as an expert, that "
              "takes every token, without a gate.")
    shared_bias: bool = knob(
        False, "All tokens get one shared bias", YES_NO, needs="MegaBlocks",
        about="The parameter `shared_b_out` (D,) is added to every output, without a gate.")

    def __post_init__(self) -> None:
        knobs.validate(self)
        if self.select_groups_kept > self.select_groups:
            raise ValueError(f"select_groups_kept must be at most select_groups, "
                             f"{self.select_groups}, got {self.select_groups_kept}")
        if self.dispatch_gradient == "straight_through" and self.gate_at != "output":
            raise ValueError("dispatch_gradient='straight_through' must go with gate_at='output', "
                             f"got {self.gate_at!r}: at the input the gradient flows anyway")
        if self.chooser == "experts":
            for name in ("select_bias", "select_groups", "select_precision", "second_choice",
                         "second_policy", "priority"):
                given, default = getattr(self, name), getattr(Conventions, name)
                if given != default:
                    raise ValueError(f"{name} must be {default!r} with chooser='experts', where "
                                     f"tokens choose nothing, got {given!r}")

    def check_layer(self, num_experts: int, top_k: int, sample: bool) -> None:
        """Refuse numbers of experts and choices, and sampling, that do not fit these options."""
        if top_k > num_experts:
            raise ValueError(f"top_k must be at most num_experts, {num_experts}, got {top_k}")
        size, rest = divmod(num_experts, self.select_groups)
        if rest:
            raise ValueError(f"select_groups must divide num_experts, {num_experts}, got "
                             f"{self.select_groups}")
        if top_k > size * self.select_groups_kept:
            raise ValueError(f"top_k must be at most the experts of select_groups_kept groups, "
                             f"{size * self.select_groups_kept}, got {top_k}")
        if self.second_balance and (top_k if self.chooser == "tokens" else num_experts) == 1:
            raise ValueError("top_k must be at least 2 with second_balance=True, got 1")
        if sample and self.chooser == "experts":
            raise ValueError("sample must be False with chooser='experts', where tokens choose "
                             "nothing, got True")

    def count_slots(self, num_experts: int, group_size: int, k: int, factor: float | None,
                    minimum: int, absolute: int | None, training: bool) -> int | None:
        """Return the slots of one expert for a group; None: no limit.

        k of a token's choices count, each for factor / E slots; a factor gives at least `minimum`;
        an `absolute` number overrides it.
        """
        if absolute is not None:
            found = absolute
        elif not training and self.eval_capacity_fraction is not None:
            found = max(ceil(self.eval_capacity_fraction * group_size), minimum)
        elif factor is None:
            return None
        else:
            rounded = ROUND[self.capacity_rounding]
            found = rounded(k * group_size * factor / num_experts)
            if self.capacity_whole_share:
                found = k * rounded(factor * ceil(group_size / num_experts))
            if self.capacity_at_most_group:
                found = min(found, group_size)
            found = max(found, minimum)
            found += -found % self.capacity_multiple_of
        return max(found - self.capacity_unused, 0)

    @cached_property
    def papers(self) -> bool:
        """Whether all options are the paper's."""
        return self == PAPER

    @property
    def always_noisy(self) -> bool:
        """Whether choices depend on random numbers even outside training."""
        return (self.second_choice == "sampled" or self.second_policy == "random"
                or self.priority == "random")


CHOICES = knobs.choices(Conventions)      # the options of each knob that takes one of several texts
PAPER = Conventions()
