"""A Switch layer in PyTorch: a loop over experts. `bug` plants one."""

import torch


def layer(x, w_router, w_in, w_out, capacity, expert=None, bug=False):
    logits = x @ w_router
    probs = torch.softmax(logits, -1)
    expert = probs.argmax(-1) if expert is None else expert
    gate = probs.gather(1, expert[:, None])
    if bug:
        gate = gate.detach()                  # as when a gate comes back from a custom kernel
    hot = torch.nn.functional.one_hot(expert, len(w_in))
    kept = (hot.cumsum(0) * hot).sum(-1) <= capacity
    y = torch.zeros_like(x)
    for e in range(len(w_in)):
        token = torch.where(kept & (expert == e))[0]
        y[token] = gate[token] * (torch.relu(x[token] @ w_in[e]) @ w_out[e])
    balance = len(w_in) * (hot.float().mean(0) * probs.float().mean(0)).sum()
    z = torch.logsumexp(logits.float(), -1).square().mean()
    return y, balance, z, expert, kept
