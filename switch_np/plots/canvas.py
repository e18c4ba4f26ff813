"""What all pictures share: the figure, text, and the colours of the experts."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:
    Axes = Figure = Any                # so that matplotlib is imported with the first picture

# Okabe and Ito's colours (2008), which colour-blind people can tell apart; grey replaces black.
_EIGHT = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")


def figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 4),
           **options: Any) -> tuple[Figure, Any]:
    """Return a figure of `size` inches, to be saved as PNG, and its Axes (rows, columns).

    At the end of a notebook's cell it shows itself in 96 colours, to keep the notebook small.
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
    colors = found[:, None] >> np.array([16, 8, 0]) & 255
    palette = np.concatenate([colors[np.argsort(-count, kind="stable")[:64]],
                              np.reshape(quantized[:3 * 32], (-1, 3))])
    nearest = ((palette ** 2).sum(axis=1) - 2 * colors @ palette.T).argmin(axis=1)
    small = Image.fromarray(nearest[index].reshape(codes.shape).astype(np.uint8))
    small.putpalette(palette.astype(np.uint8).tobytes())
    file = BytesIO()
    small.save(file, "png", optimize=True)
    return file.getvalue()


def write(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write a text centred on a point."""
    ax.text(x, y, text, ha="center", va="center", **style)


def expert_colors(num_experts: int) -> list[tuple[float, ...]]:
    """Return one colour (red, green, blue) per expert, the same for expert e in every picture.

    Eight hues, then the same eight darker; more than sixteen experts share one continuous map.

    >>> [tuple(round(part, 2) for part in color) for color in expert_colors(2)]
    [(0.9, 0.62, 0.0), (0.34, 0.71, 0.91)]
    """
    if num_experts > 2 * len(_EIGHT):
        return [tuple(color) for color in _colormap("viridis", 0, num_experts)[:, :3]]
    hues = [tuple(part / 255 for part in bytes.fromhex(name[1:])) for name in _EIGHT]
    return (hues + [tuple(part / 2 for part in hue) for hue in hues])[:num_experts]


def shades(count: int) -> list[str]:
    """Return colours from light to dark, as hexadecimal text, for curves of one kind in order.

    >>> shades(2)
    ['#9bd93c', '#440154']
    """
    import matplotlib

    return [matplotlib.colors.to_hex(shade) for shade in _colormap("viridis_r", 0.15, count)]


def _colormap(name: str, first: float, count: int) -> np.ndarray:
    """Return colours (count, 4) from `first` to the end of one of matplotlib's maps."""
    import matplotlib

    return np.asarray(matplotlib.colormaps[name](np.linspace(first, 1, count)))


def readable_on(color: tuple[float, ...]) -> str:
    """Return black or white, whichever stands out from the colour."""
    return "white" if np.dot(color, (0.3, 0.59, 0.11)) < 0.45 else "black"
