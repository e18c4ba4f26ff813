"""How much memory the layer takes, as NumPy reports it to tracemalloc.

Counted is what a call adds to what was there before: the parameters, x and d_y. A first call comes
before, so that what is made only once is not counted.
"""

import time
import tracemalloc

import switch_np as snp
from benchmarks import ours, problems
from benchmarks.problems import LayerSize


def layer(size: LayerSize) -> dict[str, float]:
    """Return MiB of one forward and backward: the arrays that there must be, and the peak.

    `kept` is what forward keeps for backward, `row array` a copy of the tokens that are not
    dropped. `peak without y` is the peak where y is let go before backward, as a model does that
    has added it to its residual stream.
    """
    config, params, x, d_y = problems.layer(size)
    ours.layer(size).run()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    out, cache = snp.switch_layer.forward(params, x, config, training=True)
    _, forward_peak = tracemalloc.get_traced_memory()
    grads = snp.switch_layer.backward(d_y, cache, problems.BALANCE_COEF)
    _, peak = tracemalloc.get_traced_memory()
    needed = {"gradients": x.nbytes + sum(value.nbytes for value in params.values()),
              "y": out.y.nbytes, "row array": len(out.plan.token) * size.d_model * x.itemsize}
    del out, grads
    time.sleep(0.1)                     # until the helping threads let go of what they computed
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    snp.switch_layer.backward(d_y, cache, problems.BALANCE_COEF)
    _, backward_peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    found = {**needed, "kept": kept - before, "peak": peak - before,
             "peak without y": max(forward_peak, backward_peak) - before}
    return {what: value / 2 ** 20 for what, value in found.items()}
