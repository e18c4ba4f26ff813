"""The animations of notebooks 02 and 05; run as a script, this file makes them anew."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from switch_np import SwitchConfig, plans, plots

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = {"buffers": "02_buffers_filling", "loads": "05_loads_over_training"}


def buffers():
    """Animate the six tokens of notebook 02, from its router."""
    names = run("02_fill_the_buffers", last="config = ")
    plan = plans.decide(names["out"].probs, SwitchConfig(num_experts=3, capacity_factor=1.0))
    return plots.moving_buffers(plan, "Capacity 2, but three tokens want expert 0: t4 is dropped, "
                                      "its x goes on")


def loads():
    """Animate the loads of block 1 in notebook 05, which trains for a minute."""
    names = run("05_train_and_watch", last="runs = ")
    shown = np.append(np.arange(1, 20), np.arange(20, 501, 20))
    shares = {name: history["share"][shown - 1, 0] for name, history in names["seen"].items()}
    with_loss, without = (8 * share_SE[-5:] for share_SE in shares.values())      # fair shares
    assert with_loss.max() < 2 < without.max() and without.min() < 0.1 < with_loss.min()
    return plots.moving_loads(shown, shares, "With the balance loss all experts end up at work; "
                                             "without it, a few take most")


def run(stem, last):
    """Return the names that a notebook has after the first cell with a line that begins so."""
    names = {}
    for cell in json.loads((NOTEBOOKS / f"{stem}.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            if any(line.startswith(last) for line in cell["source"]):
                return names
    raise ValueError(f"{stem} must have a line that begins with {last!r}")


def frames(path):
    with Image.open(path) as image:
        for number in range(image.n_frames):
            image.seek(number)
            yield np.asarray(image.convert("RGB"), int)


@pytest.mark.parametrize("name", NAMES.values())
def test_an_animation_is_small_and_moves(name):
    path = NOTEBOOKS / "pictures" / f"{name}.gif"
    first, second = itertools.islice(frames(path), 2)
    assert path.stat().st_size < 400_000 and (first != second).any()
    with Image.open(path) as image:
        assert image.info["duration"] >= 2000 and image.info["loop"] == 0    # for ever, held first


@pytest.mark.thorough
@pytest.mark.parametrize(("make", "limit"), [(buffers, 0.01), (loads, 0.05)])
def test_an_animation_made_anew_is_the_committed_one(make, limit, tmp_path):
    """A share of pixels below the limit may differ: texts and sums vary a little by version."""
    make().save(tmp_path / "new.gif", writer="pillow")
    new, old = (list(frames(path)) for path in (
        tmp_path / "new.gif", NOTEBOOKS / "pictures" / f"{NAMES[make.__name__]}.gif"))
    assert len(new) == len(old)
    differ = [(abs(a - b).max(axis=-1) > 64).mean() for a, b in zip(new, old)]
    assert differ[0] < limit and np.mean(differ) < limit


if __name__ == "__main__":
    for make in (buffers, loads):
        make().save(NOTEBOOKS / "pictures" / f"{NAMES[make.__name__]}.gif", writer="pillow")
