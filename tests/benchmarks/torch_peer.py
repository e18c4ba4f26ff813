"""The same layer in PyTorch, written as its users would for speed.

Tokens are sorted by expert, gathered, multiplied per expert and added back, as in our layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import cases
from benchmarks.subject import Subject

try:
    import torch
except ImportError:                   # the benchmark leaves it out, and says so
    torch = None


def switch(x: torch.Tensor, w: Mapping[str, torch.Tensor],
           capacity: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return y (T, D) and the balance loss."""
    probs = torch.softmax(x @ w["w_router"], dim=-1)
    gate, expert = probs.max(dim=-1)
    tokens, num_experts = probs.shape
    order = torch.argsort(expert, stable=True)
    count = torch.bincount(expert, minlength=num_experts)
    place = torch.arange(tokens) - (count.cumsum(0) - count)[expert[order]]
    kept = order[place < capacity]
    rows = x[kept].split(count.clamp(max=capacity).tolist())
    out = torch.cat([torch.relu(mine @ w_in) @ w_out for mine, w_in, w_out
                     in zip(rows, w["w_in"].unbind(), w["w_out"].unbind())])
    y = torch.zeros_like(x).index_add(0, kept, gate[kept, None] * out)
    return y, num_experts * (count / tokens * probs.mean(dim=0)).sum()


def layer(compiled: bool = False, **sizes: Any) -> Subject:
    """Return the layer, forward and backward."""
    case = cases.layer(**sizes)
    leaves = {name: torch.tensor(value, requires_grad=True)
              for name, value in {"x": case.x, **case.params}.items()}
    d_y, d_balance = torch.tensor(case.d_y), torch.tensor(case.balance_coef)

    def forward(leaves: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return switch(leaves["x"], leaves, case.capacity)

    if compiled:
        forward = torch.compile(forward)

    def step() -> dict[str, torch.Tensor]:
        y, balance = forward(leaves)
        grads = torch.autograd.grad([y, balance], list(leaves.values()), [d_y, d_balance])
        return {"y": y.detach(), **dict(zip(leaves, grads))}

    return Subject(step, lambda: {name: value.numpy() for name, value in step().items()})


def layer_compiled(**sizes: Any) -> Subject:
    """Return the layer under `torch.compile`."""
    return layer(compiled=True, **sizes)
