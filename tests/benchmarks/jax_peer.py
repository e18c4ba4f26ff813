"""The same layer in JAX, compiled.

Tokens are sorted by expert, scattered into buffers (E, C, D), multiplied in two batched products
and gathered back, so that every shape is fixed, as XLA needs it.
"""

from typing import Any

import numpy as np
import jax
import jax.numpy as jnp

from benchmarks import problems
from benchmarks.problems import LayerSize
from benchmarks.subjects import Subject


def switch(x: jax.Array, w: dict[str, jax.Array], capacity: int) -> tuple[jax.Array, jax.Array]:
    """Return y (T, D) and the balance loss."""
    (tokens, d), e = x.shape, w["w_router"].shape[1]
    probs = jax.nn.softmax(x @ w["w_router"])
    expert, gate = probs.argmax(axis=1), probs.max(axis=1)
    count = jnp.bincount(expert, length=e)
    order = jnp.argsort(expert, stable=True)
    slot = jnp.arange(tokens) - (count.cumsum() - count)[expert[order]]
    row = jnp.where(slot < capacity, expert[order] * capacity + slot, e * capacity)
    rows = jnp.zeros((e * capacity, d), x.dtype).at[row].set(x[order], mode="drop")
    hidden = jax.nn.relu(jnp.einsum("ecd,edf->ecf", rows.reshape(e, capacity, d), w["w_in"]))
    out = jnp.einsum("ecf,efd->ecd", hidden, w["w_out"]).reshape(-1, d)
    weighted = out.at[row].get(mode="fill", fill_value=0) * gate[order, None]
    y = jnp.zeros_like(x).at[order].set(weighted, unique_indices=True)
    return y, e * (count / tokens * probs.mean(axis=0)).sum()


def layer(size: LayerSize) -> Subject:
    """Return the layer, forward and backward, compiled as one function."""
    config, params, x, d_y = problems.layer(size)
    capacity = config.expert_capacity(size.tokens)
    leaves = {name: jnp.asarray(value) for name, value in {"x": x, **params}.items()}
    arriving = jnp.asarray(d_y), jnp.asarray(problems.BALANCE_COEF, np.float32)

    @jax.jit
    def both(leaves: dict[str, jax.Array], arriving: Any) -> dict[str, jax.Array]:
        (y, _), pull_back = jax.vjp(lambda w: switch(w["x"], w, capacity), leaves)
        return {"y": y, **pull_back(arriving)[0]}

    return Subject(lambda: jax.block_until_ready(both(leaves, arriving)))
