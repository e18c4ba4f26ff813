"""What `compare` found: the verdicts, in words for people and in values for programs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from switch_np.oracle.explain import wording
from switch_np.oracle.judge.choices import RoutingReport
from switch_np.oracle.judge.tensor import TensorVerdict
from switch_np.oracle.truth.reference import Reference


@dataclass(frozen=True, eq=False)
class Report:
    """What `compare` found; `str()` is for people, `to_dict()` for programs.

    Attributes
    ----------
    verdict
        "pass", "fail", "out of range" (a number on the way exceeds a quarter of what the precision
        can hold) or "undecided" (near-ties, and the kernel did not say how it took them).
    precision
        The precision in which errors were measured.
    structure, routing_errors
        What is missing, None, of the wrong shape or not finite; wrong decisions.
    routing, tensors
        The verdicts on the experts and tensors that were given; None without experts.
    notes, not_judged
        Remarks that are not failures; names of the tensors that were not given.
    unseen
        Terms of gradients whose absence would pass, each with a sentence that says so.
    reference
        The reference under the kernel's own decisions.
    find
        Finds what explains the failures; `diagnosis` calls it when it is first asked for.
    """

    verdict: str
    precision: str
    structure: tuple[str, ...]
    routing: RoutingReport | None
    routing_errors: tuple[str, ...]
    tensors: dict[str, TensorVerdict]
    notes: tuple[str, ...]
    reference: Reference
    find: Callable[[], list[str]] = field(default=list, repr=False)
    unseen: Mapping[str, str] = field(default_factory=dict)
    not_judged: tuple[str, ...] = ()

    @cached_property
    def diagnosis(self) -> tuple[str, ...]:
        """What explains the failures, the likeliest first."""
        return tuple(self.find()) if self.verdict == "fail" else ()

    @property
    def ok(self) -> bool:
        """Whether everything given is right."""
        return self.verdict == "pass"

    def __str__(self) -> str:
        count = len(self.tensors)
        blind = f", blind to {' and '.join(self.unseen)}" if self.unseen else ""
        lines = [f"{self.verdict}{blind}: {count} tensor{'s' * (count != 1)} in {self.precision}, "
                 f"{self.reference!r}"]
        lines += [f"  cause      {text}" for text in self.diagnosis[:3]]
        lines += [f"  structure  {text}" for text in self.structure]
        if self.routing is not None and self.routing.ok:
            lines.append(f"  routing    {self.routing}")
        lines += [f"  routing    {text}" for text in self.routing_errors]
        lines += [f"  numbers    {tensor.line(wording.listed(tensor.blocks, self.reference))}"
                  for tensor in self.tensors.values() if not tensor.ok]
        right = {name: tensor.worst for name, tensor in self.tensors.items() if tensor.ok}
        if right:
            lines.append(f"  right      {', '.join(right)} (worst {max(right.values()):.2g} sigma)")
        if self.not_judged:
            lines.append(f"  not judged {', '.join(self.not_judged)}")
        lines += [f"  unseen     {text}" for text in self.unseen.values()]
        return "\n".join(lines + [f"  note       {text}" for text in self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, ready for JSON."""
        routing = None if self.routing is None else {
            "status": self.routing.status.tolist(), "gap": _finite(self.routing.gap),
            "tau": _finite(self.routing.tau)}
        return {"verdict": self.verdict, "precision": self.precision,
                "structure": list(self.structure), "routing": routing,
                "routing_errors": list(self.routing_errors),
                "tensors": {name: {"ok": t.ok, "worst": _finite(t.worst), "rms": _finite(t.rms),
                                   "at": list(t.at), "got": t.got, "want": t.want,
                                   "blocks": list(t.blocks)} for name, t in self.tensors.items()},
                "diagnosis": list(self.diagnosis), "notes": list(self.notes),
                "not_judged": list(self.not_judged), "unseen": dict(self.unseen)}


def _finite(value: Any) -> Any:
    """Return numbers that JSON can hold: infinity becomes 1e300."""
    return np.clip(np.nan_to_num(value, posinf=1e300), -1e300, 1e300).tolist()
