"""What other libraries do differently: knobs, presets, and parts that replace the paper's.

Leaves, pure data, which `switch.config` imports:

knobs               a config's fields, each described once
table               the knobs of other libraries
presets             the libraries by name

Parts that stand in for the paper's, in the order of the layer:

scores              the router: sigmoid and other scores, biases, noise on the logits
choose              which experts a token asks for
serve               the plan: order of service, capacity, slots
balance_counts      what the balance loss counts
renormalise         the gates divided by a sum
input_gate          the gate on an expert's input
general_network     gated, biased experts with any activation
dropped_tokens      what a dropped token gets in place of zero
shared_expert       an expert that every token visits
general_mixture     these four, composed as `switch.mixture` is
normalised_scores   probabilities that are divided by their sum, for the balance loss
second_choice_loss  a balance loss for the second choice
general_balance_loss, general_z_loss    the losses
bind                hands the parts to `switch.layer`

For every layer:

parameters          names and shapes
noise               jitter, dropout and the rest, drawn before anything is computed
arguments, plan_checks                  what the public calls refuse
margins             how far each token is from another choice
replay              plans made from choices taken elsewhere

It may import `operations` and `switch`.
"""
