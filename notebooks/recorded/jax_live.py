"""A JAX layer and its gradients, judged: what a test of your own needs."""

import jax
import jax.numpy as jnp
import switch_np as snp

def layer(x, params):                                   # stands for yours: no capacity, k = 1
    probs = jax.nn.softmax(x @ params["w_router"])
    hidden = jax.nn.relu(jnp.einsum("td,edf->tef", x, params["w_in"]))
    out = jnp.einsum("tef,efd->ted", hidden, params["w_out"])
    expert = probs.argmax(-1)[:, None]
    gate = jnp.take_along_axis(probs, expert, 1)
    return gate * jnp.take_along_axis(out, expert[..., None], 1)[:, 0]

shapes = {"w_router": (16, 4), "w_in": (4, 16, 32), "w_out": (4, 32, 16), "x": (64, 16)}
params = {name: jax.random.normal(jax.random.key(i), s)
          for i, (name, s) in enumerate(shapes.items())}
x = params.pop("x")
config = snp.SwitchConfig(num_experts=4, capacity_factor=None)

y, pull_back = jax.vjp(layer, x, params)
d_y = jax.random.normal(jax.random.key(9), y.shape)
d_x, grads = pull_back(d_y)
ref = snp.oracle.reference(x, params, config, d_y=d_y)
snp.oracle.assert_matches(ref, y=y, grads={"x": d_x, **grads})
