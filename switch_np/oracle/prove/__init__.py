"""Proofs of the oracle and of tests that use it.

certify   the reference's gradients against the complex step, expert by expert
score     your own test, run on the museum's wrong kernels: what would it have let through?

Imported by `vectors/` and `switch_np.oracle`.
"""
