"""Leaves that the layer and the model share: each a forward and a backward on one screen."""
