"""Whole models of other libraries: configuration and arrays, converted both ways.

hugging_face        transformers' Switch Transformer: configuration, parameters and gradients
pretrained_folder   a checkpoint folder as `save_pretrained` leaves it, read and written

Imported by the command `sample` alone. The same loss and gradients in both libraries:

```python
import numpy as np
import torch
import transformers
import switch_np as snp
from switch_np.exchange import hugging_face

torch.manual_seed(0)
peer = transformers.SwitchTransformersForConditionalGeneration(
    transformers.SwitchTransformersConfig(
        vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_heads=2, num_layers=2, num_experts=4,
        num_decoder_layers=2, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1)).eval()
source, labels = torch.randint(2, 50, (2, 3, 12))
inputs = torch.cat([torch.zeros(3, 1, dtype=int), labels[:, :-1]], 1)
out = peer(input_ids=source, decoder_input_ids=inputs, labels=labels, output_router_logits=True)
out.loss.backward()

config = hugging_face.config(peer.config.to_dict())
params = hugging_face.params(peer.state_dict(), config)
batch = snp.Batch(inputs.numpy(), labels.numpy(), source=source.numpy())
loss, grads = snp.model.loss_and_grads(params, batch, config)
grads = hugging_face.state_dict(grads, config)
same = [np.allclose(grads[name], value.grad, atol=1e-5)
        for name, value in peer.named_parameters() if value.grad is not None]
print(bool(abs(loss.total - out.loss.item()) < 1e-5), all(same))    # True True
```
"""
