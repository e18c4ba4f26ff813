"""What the layer, the model and the oracle share; it imports nothing else of the package.

In reading order:

softmax, relu, activations, dropout     operations, each a forward and a backward on one screen
products                                x Wᵀ in the order that suits the BLAS
initialization                          truncated normal weights
queues                                  sorting for the plan: top k, and first come, first served
rows                                    rows of an array by index, in parallel
schedule                                which rows are computed together, and on which thread
threads                                 independent calls on several threads
precision, rounded                      rounding to half precisions; arrays that round every result
tree                                    nested dicts of arrays, and their path names
check                                   error messages for bad arguments
files                                   files that are never half written

Everything may import it.
"""
