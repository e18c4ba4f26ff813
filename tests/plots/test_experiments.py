"""The row of a claim shows its mean, its interval and its grade."""

import pytest

from switch_np import plots
from switch_np.experiments.statistics import Effect


def test_effects_show_mean_interval_grade_and_margin(ax):
    plots.effects(ax, {"it helps": Effect(0.3, 0.1, 0.2, 5),
                       "as good": Effect(-0.01, 0.02, 0.02, 5, margin=0.05),
                       "it harms": Effect(-0.3, 0.1, 0.2, 5),
                       "who knows": Effect(0.1, 0.2, 0.4, 5)}, "bits")
    ends = [bars.get_segments()[0][:, 0].tolist() for bars in ax.collections]
    assert ends == [pytest.approx(pair) for pair in ((0.2, 0.4), (-0.03, 0.01), (-0.4, -0.2),
                                                     (-0.1, 0.3))]
    colors = [bars.get_color().tolist() for bars in ax.collections]
    assert colors[0] == colors[1] and len({str(color) for color in colors}) == 3
    said = [text.get_text() for text in ax.child_axes[0].get_yticklabels()]
    assert said == ["+0.300 ± 0.100\nholds", "-0.010 ± 0.020\nholds",
                    "-0.300 ± 0.100\ncontradicted", "+0.100 ± 0.200\ncannot tell"]
    assert [list(line.get_xdata()) for line in ax.lines if line.get_linestyle() == ":"] == [
        [-0.05, -0.05]]
    assert "mean over the seeds" in ax.get_xlabel()
