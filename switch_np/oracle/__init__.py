"""What proves a gradient right: the truth in float64, verdicts on kernels, and proofs of itself."""

from switch_np.oracle import gradcheck, museum
from switch_np.oracle.adapters import to_numpy
from switch_np.oracle.problems import draw
from switch_np.oracle.report import NoVerdict, Report, assert_matches, compare
from switch_np.oracle.routing import RoutingReport, compare_routing
from switch_np.oracle.truth import Reference, reference

__all__ = ["NoVerdict", "Reference", "Report", "RoutingReport", "assert_matches", "compare",
           "compare_routing", "draw", "gradcheck", "museum", "reference", "to_numpy"]
