"""Right layers of other libraries, with their own routing and autograd.

Each takes a problem as `oracle.draw` gives it and a dtype name, and returns what it gives as its
own library's arrays: y, balance_loss, z_loss, expert, kept and grads. Those in PyTorch compute the
paper's layer, Mixtral's, DeepSeek-V3's, GPT-OSS's and Qwen2-MoE's; "mixed" routes in float32 and
multiplies in bfloat16.
"""

import numpy as np


def torch_inputs(problem, dtype):
    import torch

    kind = getattr(torch, "bfloat16" if dtype == "mixed" else dtype)
    leaves = {name: torch.tensor(value, dtype=kind, requires_grad=True)
              for name, value in {"x": problem["x"], **problem["params"]}.items()}
    padding = torch.tensor(problem.get("padding", np.zeros(len(problem["x"]), bool)))
    d_y = torch.tensor(problem["d_y"], dtype=kind)
    return torch, leaves, d_y, padding, torch.float32 if dtype == "mixed" else kind


def torch_router(torch, leaves, problem, padding, kind):
    """Return expert, slot (from a one-hot count), kept, gates and both losses."""
    config, real, does = problem["config"], ~padding, problem["config"].conventions
    sigmoid = does.scores == "sigmoid"
    if sigmoid and kind is torch.float16:          # scores of 1e-7 that are divided by their sum
        kind = torch.float32
    logits = leaves["x"].to(kind) @ leaves["w_router"].to(kind)
    if "b_router" in leaves:
        logits = logits + leaves["b_router"].to(kind)
    probs = torch.sigmoid(logits) if sigmoid else torch.softmax(logits, dim=-1)
    tokens, num_experts = probs.shape
    expert = torch.topk(torch_ranked(torch, probs.detach(), leaves, does), config.top_k).indices
    hot = torch.nn.functional.one_hot(expert, num_experts) * real[:, None, None]
    queue = hot.transpose(0, 1).reshape(-1, num_experts)
    place = ((queue.cumsum(0) - 1) * queue).sum(-1).reshape(config.top_k, tokens).T
    capacity = config.expert_capacity(tokens)
    kept = real[:, None] & (place < (tokens if capacity is None else capacity))
    count = max(int(real.sum()), 1)
    # float32 losses, as most libraries have them; float64 stays
    wide = probs if probs.dtype == torch.float64 else probs.float()
    counted = {"first": hot[:, :1], "none": hot[:, :0]}.get(does.balance_counts, hot)
    share = counted.sum((0, 1)).to(wide.dtype) / count
    balance = num_experts * (share * (wide * real[:, None]).sum(0) / count).sum()
    log_z = torch.logsumexp(logits.to(wide.dtype), dim=-1)
    z = (log_z ** 2 * real).sum() / count * (does.z_when != "never")
    gates = probs.gather(1, expert)
    if does.renorm == "pre":
        gates = gates / (gates.sum(-1, keepdim=True) + does.renorm_eps)
    gates = (gates * does.gate_scale).to(leaves["x"].dtype)
    return expert, place, kept, gates, balance, z


def torch_ranked(torch, probs, leaves, does):
    """Return the scores that experts are chosen by, with a bias and in groups where asked for."""
    if not does.select_bias:
        return probs
    scores = probs.to(torch.promote_types(probs.dtype, torch.float32))
    scores = scores + leaves["select_bias"].detach().to(scores.dtype)
    groups = scores.reshape(len(scores), does.select_groups, -1)
    best = torch.topk(torch.topk(groups, min(2, groups.shape[2])).values.sum(-1),
                      does.select_groups_kept).indices
    closed = torch.ones(groups.shape[:2], dtype=bool).scatter(1, best, False)
    return groups.masked_fill(closed[..., None], -np.inf).reshape(scores.shape)


def torch_network(torch, rows, leaves, does, e=slice(None), prefix=""):
    """Return the outputs of expert e, of all at once on (E, C, D), or of the shared one."""
    def affine(rows, name):
        z = rows @ leaves[f"{prefix}w_{name}"][e]
        return z + leaves[f"b_{name}"][e, ..., None, :] if f"b_{name}" in leaves else z

    linear = affine(rows, "in")
    if prefix + "w_gate" not in leaves:
        return affine(torch.relu(linear), "out")
    gate, limit = affine(rows, "gate"), does.expert_limit
    if limit is not None:
        linear = linear.clamp(-limit, limit)
        gate = gate.clamp(max=limit) if does.expert_limit_at == "input" else gate
    active = gate * torch.sigmoid(does.expert_silu_factor * gate)
    if limit is not None and does.expert_limit_at == "output":
        active = active.clamp(max=limit)
    return affine(active * (linear + does.expert_linear_offset), "out")


def torch_finish(torch, leaves, problem, y, balance, z, d_y, padding, expert, kept):
    does = problem["config"].conventions
    if "shared_w_in" in leaves:
        shared = torch_network(torch, leaves["x"], leaves, does, prefix="shared_")
        if does.shared_gate:
            shared = torch.sigmoid(leaves["x"] @ leaves["shared_w_router"]) * shared
        y = y + shared * ~padding[:, None]
        y = y / 2 if does.shared_average else y
    seeds = {y: d_y, balance: torch.tensor(problem["balance_coef"], dtype=balance.dtype),
             z: torch.tensor(problem["z_coef"], dtype=z.dtype)}
    seeds = {value: seed for value, seed in seeds.items() if value.requires_grad}
    torch.autograd.backward(list(seeds), list(seeds.values()))
    grads = {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
             for name, leaf in leaves.items()}
    return {"y": y, "balance_loss": balance, "z_loss": z, "expert": expert, "kept": kept,
            "grads": grads}


def torch_loop(problem, dtype):
    """A loop over experts, each on its own tokens."""
    torch, leaves, d_y, padding, kind = torch_inputs(problem, dtype)
    expert, _, kept, gates, balance, z = torch_router(torch, leaves, problem, padding, kind)
    y = torch.zeros_like(leaves["x"])
    for e in range(leaves["w_in"].shape[0]):
        token, choice = torch.where(kept & (expert == e))
        if len(token):
            out = torch_network(torch, leaves["x"][token], leaves, problem["config"].conventions, e)
            y = y.index_add(0, token, gates[token, choice, None] * out)
    return torch_finish(torch, leaves, problem, y, balance, z, d_y, padding, expert, kept)


def torch_sorted(problem, dtype):
    """All rows sorted by expert, computed in one piece an expert, and added up by token."""
    torch, leaves, d_y, padding, kind = torch_inputs(problem, dtype)
    expert, _, kept, gates, balance, z = torch_router(torch, leaves, problem, padding, kind)
    token, choice = torch.where(kept)
    order = torch.argsort(expert[token, choice], stable=True)
    token, choice = token[order], choice[order]
    sizes = torch.bincount(expert[token, choice], minlength=leaves["w_in"].shape[0]).tolist()
    does = problem["config"].conventions
    out = torch.cat([torch_network(torch, rows, leaves, does, e)
                     for e, rows in enumerate(leaves["x"][token].split(sizes))])
    weighted = torch.zeros((*expert.shape, d_y.shape[1]), dtype=d_y.dtype).index_put(
        (token, choice), gates[token, choice, None] * out)
    return torch_finish(torch, leaves, problem, weighted.sum(1), balance, z, d_y, padding, expert,
                        kept)


def torch_grouped(problem, dtype):
    """Buffers of equal size and batched products."""
    torch, leaves, d_y, padding, kind = torch_inputs(problem, dtype)
    expert, place, kept, gates, balance, z = torch_router(torch, leaves, problem, padding, kind)
    token, choice = torch.where(kept)
    e, slot = expert[token, choice], place[token, choice]
    shape = (leaves["w_in"].shape[0], int(place.max()) + 1, leaves["x"].shape[1])
    rows = torch.zeros(shape, dtype=d_y.dtype).index_put((e, slot), leaves["x"][token])
    out = torch_network(torch, rows, leaves, problem["config"].conventions)
    y = torch.zeros_like(leaves["x"]).index_put(
        (token,), gates[token, choice, None] * out[e, slot], accumulate=True)
    return torch_finish(torch, leaves, problem, y, balance, z, d_y, padding, expert, kept)


def torch_one_hot(problem, dtype):
    """The paper's form: one-hot dispatch and combine tensors (T, E, C)."""
    torch, leaves, d_y, padding, kind = torch_inputs(problem, dtype)
    expert, place, kept, gates, balance, z = torch_router(torch, leaves, problem, padding, kind)
    hot = torch.nn.functional.one_hot
    slots = int(place.max()) + 1
    chosen = hot(expert, leaves["w_in"].shape[0]).to(d_y.dtype)
    where = hot(place, slots).to(d_y.dtype) * kept[..., None]
    dispatch = torch.einsum("tke,tkc->tec", chosen, where)
    combine = torch.einsum("tk,tke,tkc->tec", gates, chosen, where)
    rows = torch.einsum("tec,td->ecd", dispatch, leaves["x"])
    out = torch_network(torch, rows, leaves, problem["config"].conventions)
    y = torch.einsum("tec,ecd->td", combine, out)
    return torch_finish(torch, leaves, problem, y, balance, z, d_y, padding, expert, kept)


def jax_one_hot(problem, dtype):
    """The same one-hot form in JAX, differentiated by `jax.vjp`."""
    import jax
    import jax.numpy as jnp

    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    config, kind, tokens = problem["config"], jnp.dtype(dtype), len(problem["x"])
    leaves = {name: jnp.asarray(value, kind)
              for name, value in {"x": problem["x"], **problem["params"]}.items()}
    real = jnp.asarray(~problem.get("padding", np.zeros(tokens, bool)))
    count, capacity = max(int(real.sum()), 1), config.expert_capacity(tokens)
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


KERNELS = {"torch loop": torch_loop, "torch sorted": torch_sorted, "torch grouped": torch_grouped,
           "jax": jax_one_hot}
