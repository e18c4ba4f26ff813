"""The paper's Switch layer and nothing else, in reading order.

`config` (the options), `router` (equation 1), `plan` (who goes where: equation 3), `gates` (the
weights of equation 2), `dispatch` (tokens to their experts' rows), `feed_forward` (one expert),
`experts` (E of them), `combine` (rows back to their tokens), `mixture` (dispatch, experts, combine:
equation 2), `balance_loss` (equations 4 to 6), `z_loss`, and `layer`, which composes them.

Comparisons look at `.real`, so that tests can differentiate the forward by complex step. Modules
here import `operations` only; `config` also the three leaves of `conventions`.
"""
