"""Whole models against numbers recorded from transformers: outputs, losses, every gradient.

`pytest tests -k golden --golden DIR` takes any other folder of such cases.
"""

from exchange.golden_model import check


def test_recorded_model_is_matched(golden_model):
    check(golden_model)
