"""Hugging Face's block as it is: transformers' SwitchTransformersSparseMLP.

Its module gives y alone; the balance loss is made elsewhere, from recorded logits. So nothing
arrives at a balance loss here, which is less work than ours, and is checked as such.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.subject import Subject

try:
    import torch
    from transformers import SwitchTransformersConfig
    from transformers.models.switch_transformers import modeling_switch_transformers as theirs
except ImportError:                   # the benchmark leaves it out, and says so
    torch = SwitchTransformersConfig = theirs = None


def build(case: cases.LayerCase) -> Any:
    """Return their module with our parameters."""
    e, d, f = case.params["w_in"].shape
    module = theirs.SwitchTransformersSparseMLP(SwitchTransformersConfig(
        d_model=d, d_ff=f, num_experts=e, expert_capacity=case.capacity, dropout_rate=0.0,
        router_jitter_noise=0.0, router_bias=False, dense_act_fn="relu"))
    with torch.no_grad():
        module.router.classifier.weight.copy_(torch.tensor(case.params["w_router"].T.copy()))
        for n in range(e):
            expert = module.experts[f"expert_{n}"]
            expert.wi.weight.copy_(torch.tensor(case.params["w_in"][n].T.copy()))
            expert.wo.weight.copy_(torch.tensor(case.params["w_out"][n].T.copy()))
    return module.train()


def layer(**sizes: Any) -> Subject:
    """Return the block, forward and backward."""
    case = cases.layer(**sizes)
    module = build(case)
    x, d_y = torch.tensor(case.x[None], requires_grad=True), torch.tensor(case.d_y[None])
    weights = dict(module.named_parameters())

    def step() -> tuple[Any, ...]:
        y = module(x)
        return y, torch.autograd.grad(y, [x, *weights.values()], d_y, allow_unused=True)

    def numbers() -> dict[str, np.ndarray]:
        y, (d_x, *grads) = step()
        by_name = {name: np.zeros(tuple(weight.shape), np.float32) if grad is None
                   else grad.numpy() for (name, weight), grad in zip(weights.items(), grads)}
        experts = range(len(case.params["w_in"]))
        return {"y": y[0].detach().numpy(), "x": d_x[0].numpy(),
                "w_router": by_name["router.classifier.weight"].T,
                **{mine: np.stack([by_name[f"experts.expert_{n}.{name}.weight"].T
                                   for n in experts])
                   for mine, name in (("w_in", "wi"), ("w_out", "wo"))}}

    return Subject(step, numbers)
