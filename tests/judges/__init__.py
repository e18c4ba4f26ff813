"""Plain loops, one token and one number at a time: the judges of the layer, forward only."""
