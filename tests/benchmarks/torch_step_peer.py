"""The same training step in PyTorch, written as its users would for speed.

Attention is `scaled_dot_product_attention`, the optimizer a fused AdamW.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.cases import ModelCase
from benchmarks.subject import Subject
from benchmarks.torch_peer import switch
from switch_np.operations import tree
from switch_np.transformer import position_bias

try:
    import torch
    import torch.nn.functional as F
except ImportError:                   # the benchmark leaves it out, and says so
    torch = F = None


def logits_and_balance(ids: torch.Tensor, w: Mapping[str, torch.Tensor], case: ModelCase,
                       buckets: torch.Tensor, causal: torch.Tensor, train_bias: bool
                       ) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits (B, S, V) and the sum of the balance losses."""
    config, (b, s) = case.config, ids.shape
    bias = w["decoder.position_bias.table"].T[:, buckets]
    bias = (bias if train_bias else bias.detach()) + causal
    x = w["embedding.table"][ids]
    balance = torch.zeros(())

    def norm(name: str) -> torch.Tensor:
        return F.rms_norm(x, (config.d_model,), w[name], config.norm_epsilon)

    for layer in range(config.num_layers):
        at = f"decoder.{layer}."
        y = norm(at + "attention_norm.scale")
        q, k, v = ((y @ w[f"{at}attention.w_{part}"]).view(b, s, config.num_heads, -1)
                   .transpose(1, 2) for part in "qkv")
        y = F.scaled_dot_product_attention(q, k, v, bias[None].expand(b, -1, -1, -1), scale=1.0)
        x = x + y.transpose(1, 2).reshape(b, s, -1) @ w[at + "attention.w_o"]
        y = norm(at + "feed_forward_norm.scale")
        if config.is_switch(layer):
            mine = {name: w[f"{at}switch.{name}"] for name in ("w_router", "w_in", "w_out")}
            y, more = switch(y.reshape(b * s, -1), mine,
                             config.switch.expert_capacity(b * s, training=True))
            x, balance = x + y.view(b, s, -1), balance + more
        else:
            y = torch.relu(y @ w[at + "feed_forward.w_in"]) @ w[at + "feed_forward.w_out"]
            x = x + y
    y = norm("decoder.final_norm.scale") * config.d_model ** -0.5
    return y @ w["embedding.table"].T, balance


def step(compiled: bool = False, train_bias: bool = False, **sizes: Any) -> Subject:
    """Return a whole training step: loss, gradients, clipping, AdamW.

    PyTorch's fused attention takes no mask that is trained. So without `train_bias` the position
    bias stays as it is, which is less work than ours, and PyTorch's faster form.
    """
    case = cases.model(**sizes)
    w = {name: torch.tensor(value, requires_grad=True)
         for name, value in tree.flatten(case.params).items()}
    length = case.batch.inputs.shape[1]
    distance = np.arange(length) - np.arange(length)[:, None]
    buckets = torch.tensor(position_bias.bucket(distance, case.config.num_buckets,
                                                case.config.max_distance))
    causal = torch.tensor(np.where(distance > 0, -1e30, 0).astype(np.float32))
    ids, targets = torch.tensor(case.batch.inputs), torch.tensor(case.batch.targets)
    optimizer = torch.optim.AdamW(w.values(), lr=cases.LEARNING_RATE, betas=(0.9, 0.99),
                                  weight_decay=0.01, fused=True)

    def loss() -> torch.Tensor:
        logits, balance = logits_and_balance(ids, w, case, buckets, causal, train_bias)
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return nats + case.config.balance_coef * balance

    if compiled:
        loss = torch.compile(loss)

    def gradients() -> torch.Tensor:
        optimizer.zero_grad()
        total = loss()
        total.backward()
        return total.detach()

    def advance() -> None:
        gradients()
        torch.nn.utils.clip_grad_norm_(w.values(), cases.MAX_NORM)
        optimizer.step()

    def numbers() -> dict[str, np.ndarray]:
        total = gradients().numpy()
        return {"loss": total, **{name: value.grad.numpy() for name, value in w.items()
                                  if value.grad is not None}}

    return Subject(advance, numbers)


def step_with_bias(**sizes: Any) -> Subject:
    """Return the training step that trains the position bias, too, as ours does."""
    return step(train_bias=True, **sizes)


def step_compiled(**sizes: Any) -> Subject:
    """Return the training step under `torch.compile`."""
    return step(compiled=True, **sizes)
