"""The T5-style model around the layer; `switch_np.model` checks the arguments and calls it.

In reading order:

model_config        the options of a model
batch               token ids, and which targets count
model_parameters    the shapes of the parameters; drawing and counting them
model_noise         dropout masks and router noise, drawn before anything is computed
model               the composition: embedding, stacks, head and loss
stack               the blocks of an encoder or a decoder, with its position bias and last norm
block               attention and feed-forward network, or Switch layer, in residual connections
embedding, position_bias, norm, attention, dense, head, cross_entropy, router_losses
                    the operations, each a forward and a backward
batch_slices        slices of a batch, a few sequences each
checks              what the public calls refuse

It builds on `operations`, `switch`, `conventions` and `switch_layer`. `model` and whatever builds
on that may import it.
"""
