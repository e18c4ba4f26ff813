"""The same layer and training step in PyTorch, written for speed as its users would.

Tokens are sorted by expert, gathered, multiplied per expert and added back, as in our layer.
Attention is `scaled_dot_product_attention`, the optimizer a fused AdamW.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import problems
from benchmarks.problems import LayerSize, StepSize
from benchmarks.subjects import Subject
from switch_np.operations import tree
from switch_np.transformer import position_bias
from switch_np.transformer.model_config import ModelConfig


def switch(x: torch.Tensor, w: Mapping[str, torch.Tensor],
           capacity: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return y (T, D) and the balance loss."""
    probs = torch.softmax(x @ w["w_router"], dim=-1)
    gate, expert = probs.max(dim=-1)
    tokens, num_experts = probs.shape
    order = torch.argsort(expert, stable=True)
    count = torch.bincount(expert, minlength=num_experts)
    slot = torch.arange(tokens) - (count.cumsum(0) - count)[expert[order]]
    kept = order[slot < capacity]
    rows = x[kept].split(count.clamp(max=capacity).tolist())
    out = torch.cat([torch.relu(mine @ w_in) @ w_out for mine, w_in, w_out
                     in zip(rows, w["w_in"].unbind(), w["w_out"].unbind())])
    y = torch.zeros_like(x).index_add(0, kept, gate[kept, None] * out)
    return y, num_experts * (count / tokens * probs.mean(dim=0)).sum()


def layer(size: LayerSize, compiled: bool = False) -> Subject:
    """Return the layer, forward and backward."""
    config, params, x, d_y = problems.layer(size)
    capacity = config.expert_capacity(size.tokens)
    leaves = {name: torch.tensor(value, requires_grad=True)
              for name, value in {"x": x, **params}.items()}
    arriving = [torch.tensor(d_y), torch.tensor(problems.BALANCE_COEF)]
    forward = torch.compile(switch) if compiled else switch

    def run() -> dict[str, torch.Tensor]:
        outputs = forward(leaves["x"], leaves, capacity)
        grads = torch.autograd.grad(outputs, list(leaves.values()), arriving)
        return {"y": outputs[0].detach(), **dict(zip(leaves, grads))}

    return Subject(run)


def logits_and_balance(ids: torch.Tensor, w: Mapping[str, torch.Tensor], bias: torch.Tensor,
                       config: ModelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits (B, S, V) and the sum of the balance losses."""
    (b, s), d, epsilon = ids.shape, (config.d_model,), config.norm_epsilon
    x, balance = w["embedding.table"][ids], torch.zeros(())
    for layer in range(config.num_layers):
        at = f"decoder.{layer}."
        y = F.rms_norm(x, d, w[at + "attention_norm.scale"], epsilon)
        q, k, v = ((y @ w[f"{at}attention.w_{name}"]).view(b, s, config.num_heads, -1)
                   .transpose(1, 2) for name in "qkv")
        y = F.scaled_dot_product_attention(q, k, v, bias[None].expand(b, -1, -1, -1), scale=1.0)
        x = x + y.transpose(1, 2).reshape(b, s, -1) @ w[at + "attention.w_o"]
        y = F.rms_norm(x, d, w[at + "feed_forward_norm.scale"], epsilon)
        if config.is_switch(layer):
            mine = {name: w[f"{at}switch.{name}"] for name in ("w_router", "w_in", "w_out")}
            y, more = switch(y.reshape(b * s, -1), mine,
                             config.switch.expert_capacity(b * s, training=True))
            x, balance = x + y.view(b, s, -1), balance + more
        else:
            x = x + torch.relu(y @ w[at + "feed_forward.w_in"]) @ w[at + "feed_forward.w_out"]
    y = F.rms_norm(x, d, w["decoder.final_norm.scale"], epsilon) * config.d_model ** -0.5
    return y @ w["embedding.table"].T, balance


def step(size: StepSize, compiled: bool = False, train_bias: bool = False) -> Subject:
    """Return a whole training step: loss, gradients, clipping, AdamW.

    PyTorch's fused attention takes no mask that is trained. So without `train_bias` the position
    bias stays as it is: less work than ours, and PyTorch's faster form.
    """
    config, params, batch = problems.step(size)
    w = {name: torch.tensor(value, requires_grad=True)
         for name, value in tree.flatten(params).items()}
    distance = np.arange(size.length) - np.arange(size.length)[:, None]
    buckets = torch.tensor(position_bias.bucket(distance, config.num_buckets, config.max_distance))
    causal = torch.tensor(np.where(distance > 0, -1e30, 0).astype(np.float32))
    ids, targets = torch.tensor(batch.inputs), torch.tensor(batch.targets)
    optimizer = torch.optim.AdamW(w.values(), lr=problems.LEARNING_RATE, betas=(0.9, 0.99),
                                  weight_decay=0.01, fused=True)

    def loss() -> torch.Tensor:
        bias = w["decoder.position_bias.table"].T[:, buckets]
        bias = (bias if train_bias else bias.detach()) + causal
        logits, balance = logits_and_balance(ids, w, bias, config)
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return nats + config.balance_coef * balance

    forward = torch.compile(loss) if compiled else loss

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        optimizer.zero_grad()
        total = forward()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(w.values(), problems.MAX_NORM)
        optimizer.step()
        return total.detach(), norm

    def named(found: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        total, norm = found
        unclip = norm / problems.MAX_NORM
        return {"loss": total, **{name: value.grad * unclip for name, value in w.items()
                                  if value.grad is not None}}

    return Subject(run, named)


layer_compiled, step_compiled = partial(layer, compiled=True), partial(step, compiled=True)
step_bias = partial(step, train_bias=True)
step_compiled_bias = partial(step, compiled=True, train_bias=True)
