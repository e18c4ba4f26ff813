"""The same layer in JAX, compiled: by indices, or in the paper's form with one-hot tensors.

By indices, tokens are sorted by expert, scattered into buffers (E, C, D), multiplied in two batched
products and gathered back: shapes are fixed, as XLA needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.subject import Subject

try:
    import jax
    import jax.numpy as jnp
except ImportError:                   # the benchmark leaves it out, and says so
    jax = jnp = None


def by_index(x: jax.Array, w: dict[str, jax.Array], capacity: int) -> tuple[jax.Array, jax.Array]:
    """Return y (T, D) and the balance loss."""
    (tokens, d), e = x.shape, w["w_router"].shape[1]
    probs = jax.nn.softmax(x @ w["w_router"])
    expert, gate = probs.argmax(axis=1), probs.max(axis=1)
    count = jnp.bincount(expert, length=e)
    order = jnp.argsort(expert, stable=True)
    place = jnp.arange(tokens) - (count.cumsum() - count)[expert[order]]
    cell = jnp.where(place < capacity, expert[order] * capacity + place, e * capacity)
    rows = jnp.zeros((e * capacity, d), x.dtype).at[cell].set(x[order], mode="drop")
    hidden = jax.nn.relu(jnp.einsum("ecd,edf->ecf", rows.reshape(e, capacity, d), w["w_in"]))
    out = jnp.einsum("ecf,efd->ecd", hidden, w["w_out"]).reshape(-1, d)
    mine = out.at[cell].get(mode="fill", fill_value=0) * gate[order, None]
    y = jnp.zeros_like(x).at[order].set(mine, unique_indices=True)
    return y, e * (count / tokens * probs.mean(axis=0)).sum()


def by_one_hot(x: jax.Array, w: dict[str, jax.Array],
               capacity: int) -> tuple[jax.Array, jax.Array]:
    """Return the same, with dispatch and combine as products with (T, E, C)."""
    probs = jax.nn.softmax(x @ w["w_router"])
    hot = jax.nn.one_hot(probs.argmax(axis=1), probs.shape[1], dtype=x.dtype)
    place = ((hot.cumsum(axis=0) - 1) * hot).sum(axis=1).astype(int)
    dispatch = hot[:, :, None] * jax.nn.one_hot(place, capacity, dtype=x.dtype)[:, None]
    rows = jnp.einsum("tec,td->ecd", dispatch, x)
    hidden = jax.nn.relu(jnp.einsum("ecd,edf->ecf", rows, w["w_in"]))
    out = jnp.einsum("ecf,efd->ecd", hidden, w["w_out"])
    y = jnp.einsum("tec,ecd->td", dispatch * probs.max(axis=1)[:, None, None], out)
    return y, probs.shape[1] * (hot.mean(axis=0) * probs.mean(axis=0)).sum()


def layer(form: Callable[..., Any] = by_index, **sizes: Any) -> Subject:
    """Return the layer, forward and backward, compiled as one function."""
    case = cases.layer(**sizes)
    leaves = {name: jnp.asarray(value) for name, value in {"x": case.x, **case.params}.items()}
    arriving = jnp.asarray(case.d_y), jnp.asarray(case.balance_coef, jnp.float32)

    @jax.jit
    def both(leaves: dict[str, jax.Array], arriving: Any) -> dict[str, jax.Array]:
        (y, _), pull = jax.vjp(lambda w: form(w["x"], w, case.capacity), leaves)
        return {"y": y, **pull(arriving)[0]}

    def step() -> dict[str, jax.Array]:
        return jax.block_until_ready(both(leaves, arriving))

    return Subject(step, lambda: {name: np.asarray(value) for name, value in step().items()})


def layer_one_hot(**sizes: Any) -> Subject:
    """Return the layer in the paper's form."""
    return layer(by_one_hot, **sizes)
