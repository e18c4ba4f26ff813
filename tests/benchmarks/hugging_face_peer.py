"""Hugging Face's block as it is, transformers' SwitchTransformersSparseMLP, and its `generate`.

The block returns y alone; its users compute the balance loss elsewhere, from recorded logits. So no
balance loss is differentiated here, which is less work than ours.
"""

from typing import Any

import numpy as np
import torch
from transformers import SwitchTransformersConfig
from transformers.models.switch_transformers import modeling_switch_transformers as theirs

from benchmarks import problems
from benchmarks.problems import LayerSize, TextSize
from benchmarks.subjects import Subject
from switch_np.exchange import hugging_face


def layer(size: LayerSize) -> Subject:
    """Return the block with our parameters, forward and backward."""
    config, params, x, d_y = problems.layer(size)
    module = theirs.SwitchTransformersSparseMLP(SwitchTransformersConfig(
        d_model=size.d_model, d_ff=4 * size.d_model, num_experts=size.num_experts,
        expert_capacity=config.expert_capacity(size.tokens), dropout_rate=0.0,
        router_jitter_noise=0.0, router_bias=False, dense_act_fn="relu")).train()
    experts = [module.experts[f"expert_{e}"] for e in range(size.num_experts)]
    weights = [module.router.classifier.weight, *(one.wi.weight for one in experts),
               *(one.wo.weight for one in experts)]
    for weight, ours in zip(weights, [params["w_router"], *params["w_in"], *params["w_out"]]):
        weight.data = torch.tensor(ours.T.copy())
    leaves = [torch.tensor(x[None], requires_grad=True), *weights]
    arriving = torch.tensor(d_y[None])

    def run() -> tuple[torch.Tensor, Any]:
        y = module(leaves[0])
        return y, torch.autograd.grad(y, leaves, arriving, materialize_grads=True)

    def named(found: tuple[torch.Tensor, Any]) -> dict[str, Any]:
        y, (d_x, *grads) = found
        d_w_router, *d_experts = [grad.T for grad in grads]
        return {"y": y[0].detach(), "x": d_x[0], "w_router": d_w_router,
                "w_in": np.stack(d_experts[:len(experts)]),
                "w_out": np.stack(d_experts[len(experts):])}

    return Subject(run, named)


def text(size: TextSize) -> Subject:
    """Return the writing of the likeliest ids, with keys and values kept; no id ends it."""
    config, params, source = problems.text(size)
    model = theirs.SwitchTransformersForConditionalGeneration(SwitchTransformersConfig(
        **hugging_face.config_values(config))).eval()
    model.load_state_dict({name: torch.tensor(value) for name, value
                           in hugging_face.state_dict(params, config).items()}, strict=False)
    model.generation_config.eos_token_id = None
    ids = torch.tensor(source)
    return Subject(lambda: model.generate(ids, do_sample=False, max_new_tokens=size.length),
                   lambda found: {"ids": found})
