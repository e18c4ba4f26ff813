"""What a Switch layer computes: one frozen value, whose defaults are the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from switch_np.operations import check
from switch_np.switch.conventions import Conventions

LARGEST = 1e200    # a factor times all tokens and choices is then still finite


@dataclass(frozen=True)
class SwitchConfig:
    """The layer's options, validated when it is made.

    Parameters
    ----------
    num_experts
        E, the number of feed-forward networks.
    top_k
        K, experts chosen per token: 1 is Switch, more is the mixture of experts of equation 2.
    capacity_factor
        Slots per expert as a multiple of the even share: floor(factor * n / E) for a group of n
        tokens (equation 3). None: no limit, no token is dropped.
    eval_capacity_factor
        The same outside training; "same" takes `capacity_factor`. The authors evaluate with 2.0.
    min_capacity
        The least capacity that a factor may give (the authors' code has 4).
    capacity
        An absolute number of slots per expert and group, in place of both factors.
    capacity_per_choice
        Multiply the factor by K. The authors' code does not: with K = 2 and factor 1 at least half
        of the choices are dropped.
    groups
        Tokens that share buffers: "all" of a call, "rows" (each sequence of a (B, S, D) input), or
        a number of equal consecutive groups.
    router_bias
        Give the router a bias `b_router` (E,).
    jitter
        In training the router's input is multiplied by U(1 - jitter, 1 + jitter) (appendix C).
    router_dropout
        In training, dropout on the router's input (appendix C's "input dropout").
    sample
        In training, draw the experts from the softmax instead of taking the largest (appendix C).
    expert_dropout
        In training, dropout on the hidden activation inside the experts (section 2.4).
    layout
        "packed" computes the kept rows alone; "buffers" the paper's buffers of fixed size, padded
        with rows of zeros. Both give the same numbers.
    conventions
        What other libraries do differently; the default is the paper. `like` fills it by name.

    Examples
    --------
    >>> SwitchConfig(num_experts=4, capacity_factor=1.25).expert_capacity(10)
    3
    >>> SwitchConfig(num_experts=4, top_k=5)
    Traceback (most recent call last):
    ValueError: top_k must be at most num_experts, 4, got 5
    """

    num_experts: int = 8
    top_k: int = 1
    capacity_factor: float | None = 1.25
    eval_capacity_factor: float | str | None = "same"
    min_capacity: int = 0
    capacity: int | None = None
    capacity_per_choice: bool = False
    groups: int | str = "all"
    router_bias: bool = False
    jitter: float = 0.01
    router_dropout: float = 0.0
    sample: bool = False
    expert_dropout: float = 0.0
    layout: str = "packed"
    conventions: Conventions = field(default_factory=Conventions)

    def __post_init__(self) -> None:
        check.integer("num_experts", self.num_experts, 1)
        check.integer("top_k", self.top_k, 1)
        if self.top_k > self.num_experts:
            raise ValueError(
                f"top_k must be at most num_experts, {self.num_experts}, got {self.top_k}")
        if self.capacity_factor is not None:
            check.number("capacity_factor", self.capacity_factor, 0, LARGEST)
        if isinstance(self.eval_capacity_factor, str):
            check.choice("eval_capacity_factor", self.eval_capacity_factor, ["same"])
        elif self.eval_capacity_factor is not None:
            check.number("eval_capacity_factor", self.eval_capacity_factor, 0, LARGEST)
        check.integer("min_capacity", self.min_capacity, 0)
        if self.capacity is not None:
            check.integer("capacity", self.capacity, 0)
        if isinstance(self.groups, str):
            check.choice("groups", self.groups, ["all", "rows"])
        else:
            check.integer("groups", self.groups, 1)
        for name in ("jitter", "router_dropout", "expert_dropout"):
            check.number(name, getattr(self, name), 0, 1)
        for name in ("capacity_per_choice", "router_bias", "sample"):
            check.flag(name, getattr(self, name))
        check.choice("layout", self.layout, ["packed", "buffers"])
        check.plain(self)
        self._check_conventions()

    def _check_conventions(self) -> None:
        """Take them as a dict too, as `dataclasses.asdict` leaves them, and hold them against E."""
        if isinstance(self.conventions, Mapping):
            check.keys("conventions", self.conventions, {f.name for f in fields(Conventions)})
            object.__setattr__(self, "conventions", Conventions(**self.conventions))
        check.instance("conventions", self.conventions, Conventions)
        size, rest = divmod(self.num_experts, self.conventions.select_groups)
        if rest:
            raise ValueError(f"select_groups must divide num_experts, {self.num_experts}, got "
                             f"{self.conventions.select_groups}")
        if self.top_k > size * self.conventions.select_groups_kept:
            raise ValueError(f"top_k must be at most the experts of select_groups_kept groups, "
                             f"{size * self.conventions.select_groups_kept}, got {self.top_k}")
        if self.conventions.second_balance and self.num_choices == 1:
            raise ValueError("top_k must be at least 2 with second_balance=True, got 1")
        if self.sample and self.conventions.chooser == "experts":
            raise ValueError("sample must be False with chooser='experts', where tokens choose "
                             "nothing, got True")

    @classmethod
    def like(cls, name: str, **overrides: Any) -> SwitchConfig:
        """Return the config that computes what a library computes; `presets()` lists the names.

        Parameters
        ----------
        name
            Such as "mesh_tf" or "hf_mixtral".
        overrides
            Fields of `SwitchConfig` or of `Conventions`, in place of the library's defaults.

        Examples
        --------
        >>> config = SwitchConfig.like("hf_mixtral", num_experts=4)
        >>> config.top_k, config.capacity_factor, config.conventions.renorm
        (2, None, 'pre')
        """
        from switch_np.switch import presets

        return presets.make(name, overrides)

    def differences(self, other: SwitchConfig) -> list[str]:
        """Say in words what this config does differently from another, a sentence per field.

        >>> for sentence in SwitchConfig(jitter=0.0).differences(SwitchConfig()):
        ...     print(sentence)
        Jitter of the router's input: none; the other: U(1 - 0.01, 1 + 0.01).
        """
        from switch_np.switch import words

        check.instance("other", other, SwitchConfig)
        return words.differences(self, other)

    @cached_property
    def foreign(self) -> bool:
        """Whether another library's conventions are asked for."""
        return self.conventions != Conventions()

    @property
    def noisy(self) -> bool:
        """Whether a training step of this layer draws random numbers."""
        return bool(self.jitter or self.router_dropout or self.sample or self.expert_dropout
                    or self.conventions.logit_noise != "none" or self.conventions.always_noisy)

    @property
    def num_choices(self) -> int:
        """K: `top_k`, or all E where the experts choose."""
        return self.top_k if self.conventions.chooser == "tokens" else self.num_experts

    def expert_capacity(self, group_size: int, training: bool = False) -> int | None:
        """Return the slots of one expert for one group of `group_size` tokens; None: no limit.

        The product comes before the quotient, as in the authors' code: with floats,
        floor(factor * n / E) and floor(factor * (n / E)) can differ.
        """
        if self.foreign:
            from switch_np.switch.variants import capacity

            return capacity.slots(self, group_size, training)
        if self.capacity is not None:
            return self.capacity
        factor = self.factor(training)
        if factor is None:
            return None
        per_token = self.top_k if self.capacity_per_choice else 1
        return max(self.min_capacity, int(per_token * group_size * factor / self.num_experts))

    def factor(self, training: bool) -> float | None:
        """Return the capacity factor in training, or outside it; None: no limit."""
        if training or self.eval_capacity_factor == "same":
            return self.capacity_factor
        return self.eval_capacity_factor
