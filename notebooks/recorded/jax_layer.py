"""A Switch layer in JAX: one-hot dispatch. `bug` plants one; `after_drops` is a convention."""

import jax
import jax.numpy as jnp


def layer(x, w_router, w_in, w_out, capacity, bug=False, after_drops=False):
    logits = x @ w_router
    probs = jax.nn.softmax(logits)
    expert = probs.argmax(-1)
    if bug:
        gate = probs.max(-1, keepdims=True)                         # the same number, is it not?
    else:
        gate = jnp.take_along_axis(probs, expert[:, None], 1)
    hot = jax.nn.one_hot(expert, len(w_in), dtype=int)
    place = (hot.cumsum(0) * hot).sum(-1) - 1
    kept = place < capacity
    slot = jax.nn.one_hot(place, capacity, dtype=x.dtype)           # all zeros past the capacity
    dispatch = hot[:, :, None].astype(x.dtype) * slot[:, None]
    hidden = jax.nn.relu(jnp.einsum("tec,td,edf->ecf", dispatch, x, w_in))
    out = jnp.einsum("ecf,efd->ecd", hidden, w_out)
    y = gate * jnp.einsum("tec,ecd->td", dispatch, out)
    counted = hot * kept[:, None] if after_drops else hot
    share = counted.mean(0, dtype=jnp.float32)
    balance = len(w_in) * (share * probs.mean(0, dtype=jnp.float32)).sum()
    z = jnp.square(jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1)).mean()
    return y, balance, z, expert, kept
