"""What other libraries do: their knobs, their presets, and the parts that stand in for the paper's.

Leaves, which `switch.config` imports: `knobs` (a config's fields, each written once), `table` (the
knobs of other libraries) and `presets` (the libraries by name). Parts in the place of the paper's:
`scores` (router), `choose` and `serve` (plan), `renormalise` (gates), `general_network`
(feed-forward), `input_gate`, `dropped_tokens`, `shared_expert` and `mixture_of_others` (mixture),
`balance_counts`, `normalised_scores`, `second_choice_loss` and `balance_of_others`, `z_of_others`
(losses); `bind` hands them to `switch.layer`. For every layer: `parameters` (names and shapes),
`noise` (drawn first), `arguments` and `plan_checks` (what is refused), `margins` (how firm a plan
is), `replay` (plans of decisions taken elsewhere). May import `operations` and `switch`.
"""
