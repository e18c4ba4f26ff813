"""The T5-style model around the layer."""
