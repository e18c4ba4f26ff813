"""Data, objective, optimizer, checkpoints, and the loop that ties them together."""
