"""The T5-style model around the layer; `switch_np.model` checks its arguments and calls it.

In reading order:

designs            the models of the paper's table 9, and the published ones
model_config       the options of a whole model
model_parameters   their shapes; drawn and counted
batch              token ids, and which targets count
model_noise        dropout masks and the routers' noise, drawn before anything is computed
model              embedding, encoder, decoder, head and loss, composed
stack              one stack of blocks
block              attention, and a feed-forward network or the Switch layer
switch_heads       queries, keys and values made by Switch layers, where the config asks for it
dense              the feed-forward network where a block has no Switch layer
batch_slices       the sequences of a batch in slices, and how results are joined
embedding, position_bias, norm, attention, head, cross_entropy, router_losses    the formulas
checks             what the public calls refuse

It imports `operations`, `switch`, `conventions` and `switch_layer`.

Encoder-decoder, or the decoder alone; both stacks are the same code:

 source ids                                       inputs: PAD, then targets but the last
     │                                                │
 embedding ──────────── one table, or two ──────── embedding
     │                                                │
 ┌ stack ─────────────────────────┐               ┌ stack ─────────────────────────┐
 │ position_bias: both directions │               │ position_bias: looking back    │
 │ ┌ block, many times ─────────┐ │               │ ┌ block, many times ─────────┐ │
 │ │ x + attention(norm(x))     │ │    memory     │ │ x + attention(norm(x))     │ │
 │ │                            │ │ ┌───────────▶ │ │ x + attention(norm(x), m)  │ │
 │ │ x + feed_forward(norm(x)), │ │ │             │ │ x + feed_forward(norm(x)), │ │
 │ │ or x + switch/layer(...)   │ │ │             │ │ or x + switch/layer(...)   │ │
 │ └────────────────────────────┘ │ │             │ └────────────────────────────┘ │
 │ norm                           │ │             │ norm                           │
 └───────────────┬────────────────┘ │             └───────────────┬────────────────┘
                 └──────────────────┘                 model: the head, a table or its own
                                                                  │
 router_losses: balance and z of each Switch layer,  +  cross_entropy(logits, targets)
                or pooled over a stack's
"""
