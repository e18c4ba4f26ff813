"""A small text, model and training config."""

import numpy as np

from switch_np.switch.config import SwitchConfig
from switch_np.training.corpus import Corpus
from switch_np.training.train_config import TrainConfig
from switch_np.transformer.model_config import ModelConfig

TEXT = np.frombuffer(b"the quick brown fox jumps over the lazy dog. " * 40, np.uint8)
CORPUS = Corpus(TEXT[:1500], TEXT[1500:])
MODEL = ModelConfig(d_model=8, d_ff=16, num_heads=2, d_kv=4, num_layers=2, dropout=0.1,
                    switch=SwitchConfig(num_experts=3, sample=True, expert_dropout=0.2))
TRAIN = TrainConfig(steps=8, batch_size=3, seq_len=12, warmup=2, learning_rate=1e-2)
