"""The gradient oracle: is a kernel right, and if not, why?

Its folders in reading order; the docstring of each lists its files:

truth     what a correct layer gives, and how far a correct kernel may be from it
judge     a kernel's choices and tensors against the truth: `compare`, `assert_matches`
explain   what explains wrong numbers; the museum of known bugs
vectors   problems drawn at random, and files of problems and answers for any language
prove     proofs of the reference itself, and of tests that use it

Imported by `pytest_plugin.py` and the commands; it needs the layer, not the model.
"""

from switch_np.operations import gradcheck
from switch_np.operations.adapters import to_numpy
from switch_np.oracle import vectors
from switch_np.oracle.explain import museum
from switch_np.oracle.judge.choices import RoutingReport, compare_routing
from switch_np.oracle.judge.compare import NoVerdict, assert_matches, compare
from switch_np.oracle.judge.report import Report
from switch_np.oracle.prove.certify import Certificate, certify
from switch_np.oracle.prove.score import Score, score
from switch_np.oracle.truth.parts import combine, dispatch, grouped_product
from switch_np.oracle.truth.reference import Reference, reference
from switch_np.oracle.truth.weights import weights
from switch_np.oracle.vectors.draw import draw

__all__ = ["Certificate", "NoVerdict", "Reference", "Report", "RoutingReport", "Score",
           "assert_matches", "certify", "combine", "compare", "compare_routing", "dispatch", "draw",
           "gradcheck", "grouped_product", "museum", "reference", "score", "to_numpy", "vectors",
           "weights"]
