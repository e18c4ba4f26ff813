"""What other libraries do differently: knobs, presets, and modules that replace the paper's.

Pure data, which `switch.config` imports:

knobs             a config's fields, each described once
table             the knobs of other libraries
libraries         other libraries
families          the 76 model folders of transformers that have a sparse layer
layouts           how these name and lay out their parameters
presets           libraries and families by name

Modules that replace the paper's, in the order of the layer:

scores            the router: sigmoid and other scores, noise on the logits
choose            which experts a token chooses
serve             the plan: priority, capacity, slots, counts for the balance loss
renormalise       gates divided by a sum, scaled, or with a value of 1
units             hidden units: an activation, a gate, limits
general_network   gated, biased experts with any activation
general_mixture   gates at the input, experts, a shared expert, and what a dropped token gets
general_losses    the balance loss and the z-loss
bind              hands these modules to `switch.layer`

For every layer:

parameters        names and shapes
noise             jitter, dropout and the rest, drawn before anything is computed
arguments         checks of parameters, tokens, plans and gradients
variation_losses  importance and load: coefficients of variation squared, for a caller to add
selection_bias    moved after each step towards an even load
margins           how far each token is from another decision

It may import `operations` and `switch`.
"""
