"""The T5-style model around the layer, in reading order; `switch_np.model` checks and calls it.

    config             the options of a whole model
    parameters         their shapes, drawn and counted
    batch              token ids, and which targets count
    noise              dropout masks and the routers' noise, drawn before anything is computed
    model              embedding, encoder, decoder, head and loss: the composition
    stack              one stack of blocks
    block              one block: attention and a feed-forward network, or the Switch layer
    self_attention, cross_attention, dense       its sublayers
    batch_slices       what sequences do apart, and how it is put together again
    embedding, position_bias, norm, attention, head, cross_entropy, router_losses       the formulas
    checks             what the public calls refuse

It stands on operations, switch, conventions and `switch_layer`; `switch_np.model`, and what stands
on that, import it.

Encoder-decoder, or the decoder alone; both stacks are the same code:

 source ids                                       inputs: PAD, then targets but the last
     │                                                │
 embedding ──────────── one table, or two ──────── embedding
     │                                                │
 ┌ stack ─────────────────────────┐               ┌ stack ─────────────────────────┐
 │ position_bias: both directions │               │ position_bias: looking back    │
 │ ┌ block ─────────────────────┐ │               │ ┌ block ─────────────────────┐ │
 │ │ x + attention(norm(x))     │ │               │ │ x + attention(norm(x))     │ │
 │ │                            │ │    memory     │ │ x + attention(norm(x), m)  │ │
 │ │ x + feed_forward(norm(x))  │ │ ┌───────────▶ │ │ x + feed_forward(norm(x))  │ │
 │ └────────────────────────────┘ │ │             │ └────────────────────────────┘ │
 │ ┌ block ─────────────────────┐ │ │             │ ┌ block ─────────────────────┐ │
 │ │ ...                        │ │ │             │ │ ...                        │ │
 │ │ x + switch/layer(norm(x))  │ │ │             │ │ x + switch/layer(norm(x))  │ │
 │ └────────────────────────────┘ │ │             │ └────────────────────────────┘ │
 │ norm                           │ │             │ norm                           │
 └───────────────┬────────────────┘ │             └───────────────┬────────────────┘
                 └──────────────────┘                 model: the head, a table or its own
                                                                  │
 router_losses: balance and z of each Switch layer,  +  cross_entropy(logits, targets)
                or pooled over a stack's

`model.forward` composes this; `model.backward` is the same read from the bottom up.
"""
