"""What other libraries do differently: options, presets, and modules that replace the paper's.

In reading order. Options, which `switch.config` imports:

- `knobs`: config fields, each with its default, its values and their description in one place.
- `table`: `Conventions`, every option that only other libraries need.
- `presets`: the libraries by name, each as settings of these options.

Modules that replace the paper's in `switch.layer`:

- `scores` for the router: noise on the logits, sigmoid scores.
- `choose` and `serve` for the plan: which experts a token asks for, and who gets a slot.
- `renormalise` for the gates.
- `general_network` for the feed-forward network: biases, gated units, other activations.
- `dropped_tokens`, `shared_expert` and `general_mixture` for the mixture.
- `balance_counts`, `normalised_scores`, `second_choice_loss` and `general_balance_loss` for the
  load-balancing loss, `general_z_loss` for the z-loss.
- `bind`: selects the modules that a config asks for.

For every layer, the paper's too:

- `parameters`: names and shapes.
- `noise`: every random number, drawn before anything is computed.
- `arguments` and `plan_checks`: checks of what the caller passes in.
- `margins`: how close each decision was.
- `replay`: plans made from decisions taken elsewhere.

Imports `operations` and `switch`. Anything but those two may import it; `switch.config` may import
`knobs`, `table` and `presets`.
"""
