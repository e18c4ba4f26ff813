"""What proves a gradient right: the truth in float64, verdicts on kernels, and proofs of itself."""

from switch_np.oracle import gradcheck, museum, vectors
from switch_np.oracle.adapters import to_numpy
from switch_np.oracle.certify import Certificate, certify
from switch_np.oracle.problems import draw
from switch_np.oracle.report import NoVerdict, Report, assert_matches, compare
from switch_np.oracle.routing import RoutingReport, compare_routing
from switch_np.oracle.score import Score, score
from switch_np.oracle.truth import Reference, reference

__all__ = ["Certificate", "NoVerdict", "Reference", "Report", "RoutingReport", "Score",
           "assert_matches", "certify", "compare", "compare_routing", "draw", "gradcheck", "museum",
           "reference", "score", "to_numpy", "vectors"]
