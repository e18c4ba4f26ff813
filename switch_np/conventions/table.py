"""The conventions of other libraries: a knob for each decision, independent of the others.

Source: the libraries' own code; `presets` says which version of each.
"""

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
    """What other libraries do differently, validated when made; the defaults are the paper's.

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
        "sqrtsoftplus": "root of the softplus of each logit"},
        needs={"sigmoid": "DeepSeek-V3, Megatron", "sqrtsoftplus": "DeepSeek-V4, Megatron"})
    chooser: str = knob("tokens", "Who chooses", {
        "tokens": "tokens choose experts", "experts": "experts choose tokens"},
        needs={"experts": "Flaxformer's expert choice"},
        about="An expert takes a group's best tokens, up to its capacity; `top_k` is not used.")
    select_bias: bool = knob(False, "A bias is added to the scores for the choice only", YES_NO,
        needs="DeepSeek-V3, Megatron",
        about="It is the parameter `select_bias` (E,), and has no gradient.")
    select_groups: int = knob(1, "Groups of experts", "{}", least=1, needs="DeepSeek-V3, Megatron")
    select_groups_kept: int = knob(1, "Groups a token may choose from", "{}", least=1,
        needs="DeepSeek-V3, Megatron",
        about="They are those whose best experts have the largest total score.")
    select_group_best: int = knob(2, "Best scores summed into a group's score", "{}", least=1,
        needs="DeepSeek-V2 (1), Megatron (`top_k // select_groups_kept`)",
        about="A smaller group sums all its scores.")
    select_precision: str = knob("same", "Scores are rounded before the choice", {
        "same": "no", "float16": "to float16", "bfloat16": "to bfloat16"},
        needs="transformers, which first casts probabilities back to the input's precision",
        about="Close scores then tie, and the lowest index wins: of experts or, where they choose, "
              "of tokens.")
    second_choice: str = knob("largest", "Later choices", {
        "largest": "the next largest scores", "sampled": "sampled by Gumbel noise on the logits"},
        needs={"sampled": "DeepSpeed and fairseq with k = 2"}, about="Also in evaluation.")
    second_policy: str = knob("all", "Later choices are used", {
        "all": "always", "none": "never", "threshold": "above a threshold",
        "random": "at random, more often the larger their gate"},
        needs={"random": "Mesh TensorFlow, fairseq, lucidrains"},
        about="At random: with probability gate / `second_threshold`, also in evaluation.")
    second_threshold: float = knob(0.2, "Threshold of later choices", "{}", least=0)
    second_compare: str = knob("gate", "What is compared with that threshold", {
        "gate": "the gate of renorm='pre'", "score": "the score"}, needs={"score": "fairseq"})

    # Noise.
    logit_noise: str = knob("none", "Noise on the logits", {
        "none": "none", "normal": "normal", "gumbel": "Gumbel",
        "learned": "normal, with a learned standard deviation"},
        needs={"normal": "Tutel", "gumbel": "ST-MoE in PyTorch", "learned": "nanoMoE"},
        about="It affects the choice, gates and losses. The learned standard deviation is "
              "softplus(x w_noise).")
    logit_noise_scale: float = knob(1.0, "Scale of the noise on the logits", "{}", least=0)
    noise_when: str = knob("training", "Jitter and noise on the logits are applied", {
        "training": "in training", "always": "in evaluation too"},
        needs={"always": "Megatron, nanoMoE"}, about="So is the dropout on the router's input.")
    jitter_reach: str = knob("router", "The jitter multiplies the input of", {
        "router": "the router only", "experts": "the router and the experts"},
        needs={"experts": "transformers, which multiplies in place"})

    # Capacity, and who is served.
    capacity_rounding: str = knob("floor", "Capacity is rounded", {
        "floor": "down", "ceil": "up", "half_even": "to the nearest, halves to even"},
        needs={"ceil": "DeepSpeed, Megatron", "half_even": "Flaxformer"})
    capacity_whole_share: bool = knob(False, "n / E is rounded up before the capacity factor",
        YES_NO, needs="Tutel, fairseq",
        about="K multiplies last: `K * round(factor * ceil(n / E))`.")
    capacity_at_most_group: bool = knob(False, "Capacity is at most the group's size", YES_NO,
        needs="Mesh TensorFlow, lucidrains",
        about="It limits what a factor gives, and affects only the size of the buffers.")
    capacity_multiple_of: int = knob(1, "Capacity is rounded up to a multiple of", "{}", least=1,
        needs="Tutel (its alignment) and nanoMoE (2)")
    capacity_unused: int = knob(0, "Slots of each buffer that are never filled", "{}", least=0,
        needs="the paper's printed pseudo-code and Keras' example (1)")
    eval_capacity_fraction: float | None = knob(None, "Capacity in evaluation", {
        None: "from the capacity factor", float: "{} of the group's tokens, rounded up"}, least=0,
        below=LARGEST, needs="fairseq (a quarter) and NLLB (all)")
    priority: str = knob("choice", "Served first", {
        "choice": "first choices by position, then second ones",
        "token": "tokens by position, with all their choices",
        "batch": "first choices of the most confident tokens, then second ones",
        "gate": "the largest scores", "weight": "the largest gates, normalised before any drop",
        "logit_or_zero": "the largest logits, with a 0 for every token that chose another expert",
        "random": "a random order"},
        needs={"token": "MegaBlocks; DeepSpeed's 'position'", "batch": "Flaxformer, Tutel",
               "gate": "DeepSpeed for k > 2", "weight": "Megatron",
               "logit_or_zero": "DeepSpeed for k > 2 before its pull request 7986",
               "random": "DeepSpeed with k = 1, labml"},
        about="The most confident tokens have the largest best score (batch-prioritised routing); "
              "`renorm` says what divides the gates. With 'logit_or_zero' a negative logit loses "
              "its slot to a token that did not choose the expert, and the slot stays empty.")
    slots: str = knob("queue", "Slots are numbered", {
        "queue": "in order of priority", "position": "by token"}, needs={"position": "DeepSpeed"},
        about="Outputs do not depend on it.")
    padding_routing: str = knob("left_out", "Padding", {
        "left_out": "is not routed", "routed": "is routed like any token",
        "first_experts": "chooses the first experts with score 0"},
        needs={"routed": "transformers, Megatron and most others, whose layers know no padding",
               "first_experts": "Flaxformer's scatter router"},
        about="Routed padding takes slots and has an output.")

    # Gates, and dropped tokens.
    renorm: str = knob("none", "Gates", {
        "none": "the scores as they are",
        "pre": "the chosen scores divided by their sum, dropped ones included",
        "post": "the chosen scores divided by the sum of those kept"},
        needs={"pre": "most top-2 gates", "post": "DeepSpeed, fairseq"})
    renorm_eps: float | str = knob(0.0, "Epsilon in the gates' divisor", {
        "finfo": "the precision's own", float: "{}"}, least=0)
    renorm_eps_mode: str = knob("add", "That epsilon is", {
        "add": "added", "clamp": "a lower bound"})
    renorm_power: float = knob(1.0, "Gates are divided by their norm of order", "{}", least=1,
        needs="MegaBlocks", about="Of order p it is (Σ g^p)^(1/p); of order 1, the sum.")
    renorm_single: bool = knob(False, "A single gate is divided by itself", YES_NO,
        needs="Mixtral, nanoMoE",
        about="It is then 1, and the router learns nothing from the main loss.")
    gate_scale: float = knob(1.0, "Gates are multiplied by", "{}", needs="DeepSeek-V3 (2.5)")
    gate_gradient: str = knob("normal", "Gates have", {
        "normal": "value and gradient", "unit": "value 1 and the gradient of their logarithm"},
        needs={"unit": "labml without `is_scale_prob`"}, about="It is g / ḡ with ḡ held fixed.")
    gate_at: str = knob("output", "Gates multiply", {
        "output": "the experts' output", "input": "the experts' input", "both": "both"},
        needs={"input": "Tutel, Megatron", "both": "Keras' example"})
    dispatch_gradient: str = knob("stop", "Dispatch sends a gradient to the gates", {
        "stop": "no", "straight_through": "yes, straight through"},
        needs={"straight_through": "ST-MoE in PyTorch"},
        about="Straight through: as if the gate had multiplied what is copied into the buffers.")
    dropped: str = knob("zero", "The output of a dropped token is", {
        "zero": "0", "identity": "the token", "gated_identity": "the token times its gate"},
        needs={"gated_identity": "transformers up to 4.5x, labml"},
        about="A token is dropped if none of its choices was kept.")

    # The balance loss E Σ f P, and the z-loss.
    balance_counts: str = knob("first", "f counts", {
        "first": "first choices", "all": "all choices", "all_over_k": "all choices, over K",
        "plain": "the K best scores, without bias and groups",
        "plain_over_k": "the K best scores, without bias and groups, over K",
        "given": "nothing: f is given", "none": "nothing: no balance loss"},
        needs={"all": "Flaxformer, transformers, nanoMoE: the loss is K if all is even",
               "all_over_k": "MegaBlocks, DeepSpeed for k > 2", "plain_over_k": "Megatron",
               "plain": "transformers' models with sigmoid scores, such as MiniMax-M2",
               "given": "Megatron's counts of many microbatches", "none": "DeepSeek-V3"},
        about="The K best scores are counted whether dropped or not. A given f is the parameter "
              "`balance_f` (E,), already divided; it has no gradient.")
    balance_drops: str = knob("pre", "Dropped choices in f", {
        "pre": "count", "post": "do not count", "post_as_0": "count as choices of expert 0"},
        needs={"post": "ST-MoE in PyTorch", "post_as_0": "transformers 4"})
    balance_probs: str = knob("full", "P is the mean of", {
        "full": "the scores", "chosen": "the chosen scores divided by their sum",
        "normalised": "the scores divided by their sum", "softmax": "the softmax of the logits"},
        needs={"chosen": "nanoMoE", "normalised": "Megatron with sigmoid",
               "softmax": "transformers' models with sigmoid scores"})
    balance_scale: str = knob("experts", "The balance loss is Σ f P times", {
        "experts": "E", "mean": "1 / E"}, needs={"mean": "fairscale"})
    balance_groups: int | str = knob("same", "Groups of tokens with a balance loss of their own", {
        "same": "those that share buffers", int: "{}"}, least=1,
        needs="Megatron's loss by sequence", about="The loss is the mean over them.")
    balance_padding: str = knob("mask_valid", "Padding in the balance loss", {
        "mask_valid": "does not count", "include": "counts like any token",
        "mask_full": "counts only in the divisors", "mask_f": "is left out of f only",
        "mask_p": "is left out of P only",
        "real_fraction": "counts like any token; the loss is multiplied by the fraction of real "
                         "tokens"},
        needs={"mask_full": "Mesh TensorFlow's top-2, Flaxformer", "mask_f": "DeepSpeed, fairseq",
               "mask_p": "Flaxformer's scatter router",
               "real_fraction": "Mesh TensorFlow's switch gating"},
        about="Except with 'mask_valid' it counts in the divisors; the fraction is the group's.")
    balance_when: str = knob("always", "The balance loss is computed", {
        "always": "always", "training": "in training, else 0"},
        needs={"training": "ST-MoE in PyTorch"})
    second_balance: bool = knob(False, "Second choices have a balance loss too", YES_NO,
        needs="Mesh TensorFlow's `moe_use_second_place_loss`",
        about="Half of it is added. It is made of the second choices and of the scores without the "
              "first choice's.")
    z_padding: str = knob("valid", "Padding in the z-loss", {
        "valid": "does not count", "include": "counts like any token",
        "zero_logits": "counts as a token with logits 0"}, needs={"zero_logits": "Flaxformer"},
        about="The z-loss is a mean over the tokens that count; logits 0 give log Z = log E.")
    z_when: str = knob("always", "The z-loss is computed", {
        "always": "always", "training": "in training", "never": "never"},
        needs={"training": "Mesh TensorFlow, ST-MoE in PyTorch"}, about="Otherwise it is 0.")

    # The experts.
    expert_activation: str = knob("relu", "Activation", {
        "relu": "ReLU", "gelu": "GELU", "gelu_tanh": "GELU approximated by tanh", "silu": "SiLU",
        "relu_squared": "ReLU squared"},
        needs={"gelu": "ST-MoE in PyTorch, Megatron, nanoMoE", "gelu_tanh": "MegaBlocks",
               "silu": "Mixtral, DeepSeek-V3", "relu_squared": "Nemotron-H"})
    expert_silu_factor: float = knob(1.0, "Factor inside SiLU's sigmoid", "{}", least=0,
        needs="GPT-OSS, MiniMax-M3 (1.702)", about="SiLU is x σ(factor x).")
    expert_gated: bool = knob(False, "Hidden units are gated", YES_NO,
        needs="Mixtral, DeepSeek-V3, ST-MoE in PyTorch",
        about="They are act(x w_gate) * (x w_in), as in SwiGLU and GEGLU.")
    expert_limit: float | None = knob(None, "Limit of gated hidden units", {
        None: "none", float: "{}"}, least=0, needs="GPT-OSS, MiniMax-M3 (7), DeepSeek-V4 (10)",
        about="It bounds x w_gate from above, and x w_in from above and below.")
    expert_limit_at: str = knob("input", "The limit is applied to the activation's", {
        "input": "input", "output": "output"}, needs={"output": "Step-3.7"})
    expert_linear_offset: float = knob(0.0, "Added to x w_in, after the limit", "{}",
        needs="GPT-OSS, MiniMax-M3 (1)")
    expert_biases: bool = knob(False, "Experts have biases", YES_NO, needs="labml, fairseq, Tutel",
        about="They are `b_in`, `b_out` and, if gated, `b_gate`.")
    expert_hidden_scale: bool = knob(False, "Hidden units have a learned scale", YES_NO,
        needs="ST-MoE in PyTorch", about="The parameter `hidden_scale` (E, F) multiplies them.")
    shared_experts: int = knob(0, "Shared experts", "{}", least=0, needs="DeepSeek-V3",
        about="Together they are one wide expert, which every token uses.")
    shared_width: int | None = knob(None, "Width of the shared expert", {
        None: "the number of shared experts times d_ff", int: "{}"}, least=1,
        needs="Qwen2-MoE, MiniMax-M3")
    shared_gate: bool = knob(False, "The shared expert has a gate of its own", YES_NO,
        needs="Qwen2-MoE, Qwen3-Next", about="It is σ(x `shared_w_router`), a parameter (D, 1).")
    shared_average: bool = knob(False, "Routed and shared output are averaged", YES_NO,
        needs="Cohere2-MoE", about="Otherwise they are added.")
    shared_limit: float | str | None = knob("same", "Limit of the shared expert's hidden units", {
        "same": "as in the routed experts", None: "none", float: "{}"}, least=0,
        needs="HY-V4, Step-3.7")
    shared_bias: bool = knob(False, "One output bias for all tokens", YES_NO, needs="MegaBlocks",
        about="The parameter `shared_b_out` (D,) is added to every output, with no gate.")

    def __post_init__(self) -> None:
        knobs.validate(self)
        if self.select_groups_kept > self.select_groups:
            raise ValueError(f"select_groups_kept must be at most select_groups, "
                             f"{self.select_groups}, got {self.select_groups_kept}")
        if self.dispatch_gradient == "straight_through" and self.gate_at != "output":
            raise ValueError("dispatch_gradient='straight_through' must go with gate_at='output', "
                             f"got {self.gate_at!r}, where the gates have this gradient anyway")
        self._check_experts()
        if self.chooser == "experts":
            for name in ("select_bias", "select_groups", "second_choice", "second_policy",
                         "priority"):
                given, default = getattr(self, name), getattr(Conventions, name)
                if given != default:
                    raise ValueError(f"{name} must be {default!r} with chooser='experts', where "
                                     f"tokens choose nothing, got {given!r}")

    def _check_experts(self) -> None:
        """Refuse settings of the experts that would have no effect."""
        for name in ("shared_width", "shared_gate", "shared_average", "shared_limit"):
            given, default = getattr(self, name), getattr(Conventions, name)
            if given != default and not self.shared_experts:
                raise ValueError(f"{name} must be {default!r} with shared_experts=0, got {given!r}")
        for name, other, wanted in (
                *((name, "expert_gated", True)
                  for name in ("expert_limit", "expert_linear_offset", "shared_limit")),
                ("expert_silu_factor", "expert_activation", "silu")):
            given, default = getattr(self, name), getattr(Conventions, name)
            if given != default and getattr(self, other) != wanted:
                raise ValueError(f"{name} must be {default!r} unless {other}={wanted!r}, "
                                 f"got {given!r}")

    def check_layer(self, num_experts: int, top_k: int, sample: bool) -> None:
        """Refuse a number of experts or choices, or sampling, that these conventions exclude."""
        if top_k > num_experts:
            raise ValueError(f"top_k must be at most num_experts, {num_experts}, got {top_k}")
        size, rest = divmod(num_experts, self.select_groups)
        if rest:
            raise ValueError(
                f"select_groups must divide num_experts, {num_experts}, got {self.select_groups}")
        if top_k > size * self.select_groups_kept:
            raise ValueError(f"top_k must be at most the experts of select_groups_kept groups, "
                             f"{size * self.select_groups_kept}, got {top_k}")
        if self.second_balance and (top_k if self.chooser == "tokens" else num_experts) == 1:
            raise ValueError("top_k must be at least 2 with second_balance=True, got 1")
        if sample and self.chooser == "experts":
            raise ValueError("sample must be False with chooser='experts', where tokens choose "
                             "nothing, got True")

    def check_tries(self, num_experts: int, top_k: int, tries: int, sample: bool) -> None:
        """Refuse tokens that ask several experts for a slot where these conventions exclude it."""
        for name, value, wanted in (
                ("top_k", top_k, 1), ("sample", sample, False), ("chooser", self.chooser, "tokens"),
                ("select_bias", self.select_bias, False), ("select_groups", self.select_groups, 1),
                ("select_precision", self.select_precision, "same"),
                ("priority", self.priority, "choice"), ("slots", self.slots, "queue"),
                ("balance_drops", self.balance_drops, "pre"),
                ("second_balance", self.second_balance, False)):
            if value != wanted:
                raise ValueError(f"{name} must be {wanted!r} where tokens ask several experts for "
                                 f"a slot, tries={tries}, got {value!r}")
        if tries > num_experts:
            raise ValueError(f"tries must be at most num_experts, {num_experts}, got {tries}")

    def count_slots(self, num_experts: int, group_size: int, k: int, factor: float | None,
                    minimum: int, absolute: int | None, training: bool) -> int | None:
        """Return an expert's slots for one group, `absolute` if it is given; None for no limit."""
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

    def loss_groups(self, num_groups: int, num_tokens: int) -> int:
        """Return how many groups of tokens have a balance loss of their own."""
        if isinstance(self.balance_groups, str):
            return num_groups
        if num_tokens % self.balance_groups:
            raise ValueError(f"balance_groups must divide the number of tokens, {num_tokens}, "
                             f"got {self.balance_groups}")
        return self.balance_groups

    @property
    def counts_plain(self) -> bool:
        """Whether the balance loss counts the best scores, whatever was chosen."""
        return self.balance_counts in ("plain", "plain_over_k")

    @cached_property
    def papers(self) -> bool:
        """Whether these are the paper's conventions."""
        return self == PAPER

    @property
    def always_noisy(self) -> bool:
        """Whether the plan depends on random numbers, in evaluation too."""
        return self.second_choice == "sampled" or "random" in (self.second_policy, self.priority)


CHOICES = knobs.choices(Conventions)      # the options of each knob whose values are strings
PAPER = Conventions()
