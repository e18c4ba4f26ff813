"""What the layer and the model share; it imports nothing of `switch_np` but itself.

Formulas:

softmax          softmax over the last axis, and the logarithm of its normalizer
relu             the rectifier
activations      SiLU, GELU and the rest, each with its slope
dropout          inverted dropout with a given mask
products         a matrix product with a transposed weight
heads            attention's projections of one input as one product

Numbers and rows:

initialization   truncated normal numbers with standard deviation √(scale / fan-in)
precision        rounding to bfloat16 and float16 in arrays that stay float32 or float64
roundoff         the precisions in which kernels compute: unit roundoff and range
rounded          arrays that round after every operation
rows             rows of an array by number, some of them missing
queues           the k largest scores, and first-come-first-served queues
tree             nested dicts of arrays, and their path names

Who computes what, and what is refused:

schedule         which rows are computed together: blocks and threads
threads          the threads themselves
environment      settings that must precede NumPy's import; cores and free memory
check            checks of values; a message names the argument, what it must be and what it is
signatures       checks that arguments have the types of a call's signature
adapters         arrays of any library as NumPy arrays, without importing that library
files            files written whole or not at all; folders claimed
reading          broken files refused by name; JSON and npz read
safetensors      safetensors files, read and written
gradcheck        the complex step, and the check of a backward against it
"""
