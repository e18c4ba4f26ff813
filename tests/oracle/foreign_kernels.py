"""Right layers of other libraries, with their own routing and autograd: three, and a judge.

Each takes a problem as `oracle.draw` gives it and a dtype name, and returns what it gives as its
own library's arrays: y, balance_loss, z_loss, expert, kept and grads.
"""

import numpy as np


def torch_inputs(problem, dtype):
    import torch

    kind = getattr(torch, dtype)
    leaves = {name: torch.tensor(value, dtype=kind, requires_grad=True)
              for name, value in {"x": problem["x"], **problem["params"]}.items()}
    padding = torch.tensor(problem.get("padding", np.zeros(len(problem["x"]), bool)))
    return torch, leaves, torch.tensor(problem["d_y"], dtype=kind), padding


def torch_router(torch, leaves, problem, padding):
    """Return probs, expert, slot (from a one-hot count), kept, gates and both losses."""
    config, real = problem["config"], ~padding
    logits = leaves["x"] @ leaves["w_router"]
    probs = torch.softmax(logits, dim=-1)
    tokens, num_experts = probs.shape
    expert = torch.topk(probs, config.top_k, dim=-1).indices
    hot = torch.nn.functional.one_hot(expert, num_experts) * real[:, None, None]
    queue = hot.transpose(0, 1).reshape(-1, num_experts)
    place = ((queue.cumsum(0) - 1) * queue).sum(-1).reshape(config.top_k, tokens).T
    capacity = config.expert_capacity(tokens)
    kept = real[:, None] & (place < (tokens if capacity is None else capacity))
    count = max(int(real.sum()), 1)
    # float32 losses, as most libraries have them; float64 stays
    wide = probs if probs.dtype == torch.float64 else probs.float()
    share = hot[:, 0].sum(0).to(wide.dtype) / count
    balance = num_experts * (share * (wide * real[:, None]).sum(0) / count).sum()
    log_z = torch.logsumexp(logits.to(wide.dtype), dim=-1)
    z = (log_z ** 2 * real).sum() / count
    return expert, place, kept, probs.gather(1, expert), balance, z


def torch_finish(torch, leaves, problem, y, balance, z, d_y, expert, kept):
    torch.autograd.backward([y, balance, z], [
        d_y, torch.tensor(problem["balance_coef"], dtype=balance.dtype),
        torch.tensor(problem["z_coef"], dtype=z.dtype)])
    grads = {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
             for name, leaf in leaves.items()}
    return {"y": y, "balance_loss": balance, "z_loss": z, "expert": expert, "kept": kept,
            "grads": grads}


def torch_loop(problem, dtype):
    """A loop over experts, each on its own tokens."""
    torch, leaves, d_y, padding = torch_inputs(problem, dtype)
    expert, _, kept, gates, balance, z = torch_router(torch, leaves, problem, padding)
    y = torch.zeros_like(leaves["x"])
    for e in range(leaves["w_in"].shape[0]):
        token, choice = torch.where(kept & (expert == e))
        if len(token):
            hidden = torch.relu(leaves["x"][token] @ leaves["w_in"][e])
            y = y.index_add(0, token, gates[token, choice, None] * (hidden @ leaves["w_out"][e]))
    return torch_finish(torch, leaves, problem, y, balance, z, d_y, expert, kept)


def torch_grouped(problem, dtype):
    """Buffers of equal size and two batched products."""
    torch, leaves, d_y, padding = torch_inputs(problem, dtype)
    expert, place, kept, gates, balance, z = torch_router(torch, leaves, problem, padding)
    token, choice = torch.where(kept)
    e, slot = expert[token, choice], place[token, choice]
    shape = (leaves["w_in"].shape[0], int(place.max()) + 1, leaves["x"].shape[1])
    rows = torch.zeros(shape, dtype=d_y.dtype).index_put((e, slot), leaves["x"][token])
    out = torch.bmm(torch.relu(torch.bmm(rows, leaves["w_in"])), leaves["w_out"])
    y = torch.zeros_like(leaves["x"]).index_put(
        (token,), gates[token, choice, None] * out[e, slot], accumulate=True)
    return torch_finish(torch, leaves, problem, y, balance, z, d_y, expert, kept)


def torch_one_hot(problem, dtype):
    """The paper's form: one-hot dispatch and combine tensors (T, E, C)."""
    torch, leaves, d_y, padding = torch_inputs(problem, dtype)
    expert, place, kept, gates, balance, z = torch_router(torch, leaves, problem, padding)
    hot = torch.nn.functional.one_hot
    slots = int(place.max()) + 1
    chosen = hot(expert, leaves["w_in"].shape[0]).to(d_y.dtype)
    where = hot(place, slots).to(d_y.dtype) * kept[..., None]
    dispatch = torch.einsum("tke,tkc->tec", chosen, where)
    combine = torch.einsum("tk,tke,tkc->tec", gates, chosen, where)
    rows = torch.einsum("tec,td->ecd", dispatch, leaves["x"])
    hidden = torch.relu(torch.einsum("ecd,edf->ecf", rows, leaves["w_in"]))
    out = torch.einsum("ecf,efd->ecd", hidden, leaves["w_out"])
    y = torch.einsum("tec,ecd->td", combine, out)
    return torch_finish(torch, leaves, problem, y, balance, z, d_y, expert, kept)


def jax_one_hot(problem, dtype):
    """The same one-hot form in JAX, differentiated by `jax.vjp`."""
    import jax
    import jax.numpy as jnp

    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    config = problem["config"]
    kind = jnp.dtype(dtype)
    leaves = {name: jnp.asarray(value, kind)
              for name, value in {"x": problem["x"], **problem["params"]}.items()}
    real = jnp.asarray(~problem.get("padding", np.zeros(len(problem["x"]), bool)))
    tokens = len(problem["x"])
    count = max(int(real.sum()), 1)
    capacity = config.expert_capacity(tokens)
    capacity = tokens if capacity is None else capacity

    def layer(leaves):
        logits = leaves["x"] @ leaves["w_router"]
        num_experts = logits.shape[1]
        probs = jax.nn.softmax(logits, axis=-1)
        gates, expert = jax.lax.top_k(probs, config.top_k)
        hot = jax.nn.one_hot(expert, num_experts, dtype=int) * real[:, None, None]
        queue = hot.transpose(1, 0, 2).reshape(-1, num_experts)
        place = ((queue.cumsum(0) - 1) * queue).sum(-1).reshape(config.top_k, tokens).T
        kept = real[:, None] & (place < capacity)
        where = jax.nn.one_hot(place, max(capacity, 1), dtype=kind) * kept[..., None]
        dispatch = jnp.einsum("tke,tkc->tec", hot.astype(kind), where)
        combine = jnp.einsum("tk,tke,tkc->tec", gates, hot.astype(kind), where)
        rows = jnp.einsum("tec,td->ecd", dispatch, leaves["x"])
        hidden = jax.nn.relu(jnp.einsum("ecd,edf->ecf", rows, leaves["w_in"]))
        y = jnp.einsum("tec,ecd->td", combine,
                       jnp.einsum("ecf,efd->ecd", hidden, leaves["w_out"]))
        wide = probs if dtype == "float64" else probs.astype(jnp.float32)
        share = hot[:, 0].sum(0).astype(wide.dtype) / count
        balance = num_experts * (share * (wide * real[:, None]).sum(0) / count).sum()
        log_z = jax.nn.logsumexp(logits.astype(wide.dtype), axis=-1)
        return (y, balance, (log_z ** 2 * real).sum() / count), (expert, kept)

    (y, balance, z), pull, (expert, kept) = jax.vjp(layer, leaves, has_aux=True)
    grads, = pull((jnp.asarray(problem["d_y"], kind),
                   jnp.asarray(problem["balance_coef"], balance.dtype),
                   jnp.asarray(problem["z_coef"], z.dtype)))
    return {"y": y, "balance_loss": balance, "z_loss": z, "expert": expert, "kept": kept,
            "grads": grads}


KERNELS = {"torch loop": torch_loop, "torch grouped": torch_grouped, "jax": jax_one_hot}
