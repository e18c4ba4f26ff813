"""The same layer and training step in JAX, each compiled as a whole; the optimizer is optax's.

Tokens are sorted by expert, scattered into buffers (E, C, D), multiplied in two batched products
and gathered back, so that every shape is fixed, as XLA needs it.
"""

from typing import Any

import numpy as np
import jax
import jax.numpy as jnp
import optax

from benchmarks import problems
from benchmarks.problems import LayerSize, StepSize
from benchmarks.subjects import Subject
from switch_np.operations import tree
from switch_np.transformer import position_bias
from switch_np.transformer.model_config import ModelConfig


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


def norm(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
    """Return the stream divided by its root mean square."""
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + epsilon) * scale


def logits_and_balance(ids: jax.Array, w: dict[str, jax.Array], bias: jax.Array,
                       config: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """Return the logits (B, S, V) and the sum of the balance losses."""
    (b, s), h, epsilon = ids.shape, config.num_heads, config.norm_epsilon
    x, balance = w["embedding.table"][ids], 0.0
    for layer in range(config.num_layers):
        at = f"decoder.{layer}."
        y = norm(x, w[at + "attention_norm.scale"], epsilon)
        q, k, v = ((y @ w[f"{at}attention.w_{name}"]).reshape(b, s, h, -1) for name in "qkv")
        probs = jax.nn.softmax(jnp.einsum("bsha,bmha->bhsm", q, k) + bias)
        y = jnp.einsum("bhsm,bmha->bsha", probs, v).reshape(b, s, -1)
        x = x + y @ w[at + "attention.w_o"]
        y = norm(x, w[at + "feed_forward_norm.scale"], epsilon)
        if config.is_switch(layer):
            mine = {name: w[f"{at}switch.{name}"] for name in ("w_router", "w_in", "w_out")}
            y, more = switch(y.reshape(b * s, -1), mine,
                             config.switch.expert_capacity(b * s, training=True))
            x, balance = x + y.reshape(x.shape), balance + more
        else:
            hidden = jax.nn.relu(y @ w[at + "feed_forward.w_in"])
            x = x + hidden @ w[at + "feed_forward.w_out"]
    y = norm(x, w["decoder.final_norm.scale"], epsilon) * config.d_model ** -0.5
    return y @ w["embedding.table"].T, balance


def step(size: StepSize) -> Subject:
    """Return a whole training step, compiled as one function that updates in place."""
    config, params, batch = problems.step(size)
    distance = np.arange(size.length) - np.arange(size.length)[:, None]
    buckets = position_bias.bucket(distance, config.num_buckets, config.max_distance)
    causal = np.where(distance > 0, -1e30, 0).astype(np.float32)
    rule = optax.chain(optax.clip_by_global_norm(problems.MAX_NORM), optax.adamw(
        problems.LEARNING_RATE, b2=0.99, weight_decay=0.01))

    def loss(w: dict[str, jax.Array]) -> jax.Array:
        bias = w["decoder.position_bias.table"].T[:, buckets] + causal
        logits, balance = logits_and_balance(batch.inputs, w, bias, config)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets).mean()
        return nats + config.balance_coef * balance

    def update(w: Any, state: Any) -> tuple[Any, Any, jax.Array]:
        total, grads = jax.value_and_grad(loss)(w)
        updates, state = rule.update(grads, state, w)
        return optax.apply_updates(w, updates), state, total

    compiled = jax.jit(update, donate_argnums=(0, 1))
    w = {name: jnp.array(value) for name, value in tree.flatten(params).items()}
    held = [(w, rule.init(w), jnp.zeros(()))]

    def run() -> jax.Array:
        held[0] = jax.block_until_ready(compiled(*held[0][:2]))
        return held[0][2]

    return Subject(run, lambda total: {"loss": total, **jax.jit(jax.grad(loss))(held[0][0])})
