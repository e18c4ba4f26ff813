"""What all pictures share: the figure, and the colours of the experts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours (2008), which colour-blind people can tell apart; grey replaces black.
_EIGHT = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")


def figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 4),
           **options: Any) -> tuple[Figure, Any]:
    """Return a figure of `size` inches, to be saved as PNG, and its Axes (rows, columns).

    As the last expression of a notebook's cell it shows itself in 96 colours, to keep the notebook
    small.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _ipython_display_(self) -> None:
            from IPython.display import Image, display

            display(Image(_small_png(self)))

    made = Shown(figsize=size, layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, squeeze=False, **options)


def _small_png(drawn: Figure) -> bytes:
    """Return the picture as PNG of 96 colours, a quarter of the usual size.

    The experts' colours stay exact, however small their area, and so do the most common, up to 64.
    """
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    drawn.savefig(file, format="png")
    picture = Image.open(file).convert("RGB")
    quantized = picture.quantize(32, dither=Image.Dither.NONE).getpalette() or []
    codes = np.asarray(picture, np.int64) @ np.array([65536, 256, 1])
    found, index, count = np.unique(codes, return_inverse=True, return_counts=True)
    count[np.isin(found, [int(name[1:], 16) for name in _EIGHT])] = codes.size
    colors = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    palette = np.concatenate([colors[np.argsort(-count, kind="stable")[:64]],
                              np.reshape(quantized[:3 * 32], (-1, 3))])
    distance = ((colors ** 2).sum(axis=1)[:, None] - 2 * colors @ palette.T
                + (palette ** 2).sum(axis=1))
    small = Image.fromarray(distance.argmin(axis=1)[index].reshape(codes.shape).astype(np.uint8))
    small.putpalette(palette.astype(np.uint8).tobytes())
    file = BytesIO()
    small.save(file, "png", optimize=True)
    return file.getvalue()


def expert_colors(num_experts: int) -> list[tuple[float, float, float]]:
    """Return one colour (red, green, blue) per expert, the same for expert e in every picture.

    Eight hues that everybody can tell apart, then the same eight darker; more than sixteen experts
    share one continuous map.

    >>> [tuple(round(part, 2) for part in color) for color in expert_colors(2)]
    [(0.9, 0.62, 0.0), (0.34, 0.71, 0.91)]
    """
    if num_experts <= 2 * len(_EIGHT):
        hues = [(int(name[1:3], 16) / 255, int(name[3:5], 16) / 255, int(name[5:], 16) / 255)
                for name in _EIGHT]
        darker = [(red / 2, green / 2, blue / 2) for red, green, blue in hues]
        return (hues + darker)[:num_experts]
    import matplotlib

    return [(red, green, blue) for red, green, blue, _ in matplotlib.colormaps["viridis"](
        np.linspace(0, 1, num_experts))]


def shades(count: int) -> list[str]:
    """Return colours from light to dark, as hexadecimal text, for curves of one kind in order.

    >>> shades(2)
    ['#9bd93c', '#440154']
    """
    import matplotlib

    return [matplotlib.colors.to_hex(shade) for shade in matplotlib.colormaps["viridis_r"](
        np.linspace(0.15, 1, count))]


def readable_on(color: tuple[float, float, float]) -> str:
    """Return black or white, whichever stands out from the colour."""
    red, green, blue = color
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.45 else "black"
