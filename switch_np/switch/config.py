"""What a Switch layer computes: one frozen value, whose defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from switch_np.conventions import knobs, presets
from switch_np.conventions.knobs import LARGEST, RATE, YES_NO, knob
from switch_np.conventions.table import Conventions

FACTOR = {None: "no limit, no token is dropped", float: "{}"}


@knobs.explained
@dataclass(frozen=True)
class SwitchConfig:
    """The layer's options, validated when it is made.

    Examples
    --------
    >>> SwitchConfig(num_experts=4, top_k=5)
    Traceback (most recent call last):
    ValueError: top_k must be at most num_experts, 4, got 5
    """

    num_experts: int = knob(8, "Experts", "{}", least=1, about="E feed-forward networks.")
    top_k: int = knob(1, "Experts chosen per token", "{}", least=1, about="""K: 1 is Switch, more
        is the mixture of experts of equation 2.""")
    tries: int | str = knob(1, "Experts that a token asks for a slot", {
        int: "the {} best, one after the other", "all": "all of them, best first"}, least=1,
        about="""1: a token whose expert is full is dropped. More, or "all": it goes on to its next
        best expert (appendix B, no token left behind). It needs `top_k` 1.""")
    capacity_factor: float | None = knob(1.25, "Capacity factor", FACTOR, least=0, below=LARGEST,
        about="An expert has floor(factor * n / E) slots for n tokens: equation 3, rounded down.")
    eval_capacity_factor: float | str | None = knob(
        "same", "Capacity factor in evaluation", {"same": "as in training", **FACTOR}, least=0,
        below=LARGEST, about="The authors evaluate with 2.0.")
    min_capacity: int = knob(0, "Minimum capacity", "{} slots", least=0,
        about="It bounds what a factor gives; the authors' code has 4.")
    capacity: int | None = knob(None, "Absolute capacity", {
        None: "none, it follows from the factor", int: "{}"}, least=0,
        about="Slots per expert and group, in place of both factors.")
    capacity_per_choice: bool = knob(False, "The capacity factor is multiplied by K", YES_NO,
        about="The authors' code does not: there, K = 2 with factor 1 drops half or more.")
    groups: int | str = knob("all", "Tokens that share buffers", {
        "all": "all of a call", "rows": "those of one sequence", int: "one of {} groups"}, least=1,
        about="Sequences are those of a (B, S, D) input; groups are equal and consecutive.")
    router_bias: bool = knob(False, "The router has a bias", YES_NO, about="It is `b_router` (E,).")
    jitter: float = knob(0.01, "Jitter of the router's input", {
        0.0: "none", float: "U(1 - {0}, 1 + {0})"}, least=0, below=1,
        about="In training the input is multiplied by it (appendix C).")
    router_dropout: float = knob(0.0, "Dropout on the router's input", RATE, least=0, below=1,
        about="In training (appendix C's \"input dropout\").")
    sample: bool = knob(False, "Experts are drawn from the softmax in training", YES_NO,
        about="Otherwise the largest is taken (appendix C).")
    expert_dropout: float = knob(0.0, "Dropout inside the experts", RATE, least=0, below=1,
        about="In training, on the hidden activation (section 2.4).")
    layout: str = knob("packed", "Rows of the experts", {
        "packed": "the kept ones only", "buffers": "buffers of fixed size, filled with zeros"},
        about="Both give the same numbers; the paper has buffers.")
    conventions: Conventions = field(default_factory=Conventions, metadata={"about": """What other
        libraries do differently; the default is the paper. `like` fills it by name."""})

    def __post_init__(self) -> None:
        knobs.validate(self)
        self.conventions.check_layer(self.num_experts, self.top_k, self.sample)
        if self.num_tries > 1:
            self.conventions.check_tries(self.num_experts, self.top_k, self.num_tries, self.sample)

    @classmethod
    def like(cls, name: str, **overrides: Any) -> SwitchConfig:
        """Return the config that computes what a library computes; `presets()` lists the names.

        `overrides` are fields of `SwitchConfig` or `Conventions`, and replace the library's own.

        >>> config = SwitchConfig.like("hf_mixtral", num_experts=4)
        >>> config.top_k, config.capacity_factor, config.conventions.renorm
        (2, None, 'pre')
        """
        return knobs.build(cls, presets.settings(name, overrides))

    def differences(self, other: SwitchConfig) -> list[str]:
        """Say in words what this config does differently from another, a sentence per field.

        >>> SwitchConfig(jitter=0.0).differences(SwitchConfig())
        ["Jitter of the router's input: none; the other: U(1 - 0.01, 1 + 0.01)."]
        """
        return knobs.differences(self, other)

    @property
    def noisy(self) -> bool:
        """Whether a training step of this layer draws random numbers."""
        return bool(self.jitter or self.router_dropout or self.sample or self.expert_dropout
                    or self.conventions.logit_noise != "none" or self.conventions.always_noisy)

    @property
    def num_choices(self) -> int:
        """K: `top_k`, or all E where the experts choose."""
        return self.top_k if self.conventions.chooser == "tokens" else self.num_experts

    @property
    def num_tries(self) -> int:
        """How many experts a token asks for a slot."""
        return self.num_experts if isinstance(self.tries, str) else self.tries

    @property
    def counts_scores(self) -> bool:
        """Whether f counts the best scores, not the experts that the tokens got."""
        return self.num_tries > 1 or self.conventions.counts_plain

    def expert_capacity(self, group_size: int, training: bool = False) -> int | None:
        """Return floor(factor * n / E), in the paper's conventions; None: no limit.

        These are the slots of one expert for a group of n tokens (equation 3). The product is taken
        before the division, as in the authors' code: in floating point the order can matter.

        >>> [SwitchConfig.like(name, capacity_factor=1.25).expert_capacity(20, training=True)
        ...  for name in ("paper", "mesh_tf_top2", "deepspeed_top2", "tutel")]
        [3, 4, 7, 6]
        """
        k = self.top_k if self.capacity_per_choice else 1
        outside = self.eval_capacity_factor
        factor = self.capacity_factor if training or isinstance(outside, str) else outside
        if not self.conventions.papers:
            return self.conventions.count_slots(self.num_experts, group_size, k, factor,
                                                self.min_capacity, self.capacity, training)
        if self.capacity is not None or factor is None:
            return self.capacity
        return max(int(k * group_size * factor / self.num_experts), self.min_capacity)
