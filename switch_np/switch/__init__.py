"""The paper's layer, one operation a file, in the order in which a token meets them."""
