"""What all pictures share: the figure, text, and the colours of the experts."""

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:
    Axes = Figure = Any                # so that matplotlib is imported with the first picture

# Okabe and Ito's colours (2008), which colour-blind people can tell apart; grey replaces black;
# and eight as far as possible from these, from white and from each other, to the colour-blind too.
_SIXTEEN = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999",
            "#550055", "#0000DD", "#116644", "#AACC99", "#BB0000", "#22EEFF", "#660011", "#BB1177")


def figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 4), dpi: int = 100,
           **options: Any) -> tuple[Figure, Any]:
    """Return a figure of `size` inches, to be saved as PNG, and its Axes (rows, columns).

    At the end of a notebook's cell it shows itself, 100 pixels wide per inch whatever `dpi`, with
    its titles and labels as alternative text. `options` go to `Figure.subplots`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _ipython_display_(self) -> None:
            from IPython.display import Image, display

            display(Image(_png(self), width=round(100 * self.get_figwidth()), alt=told(self)))

    made = Shown(figsize=size, dpi=dpi, layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, squeeze=False, **options)


def _png(drawn: Figure) -> bytes:
    file = BytesIO()
    drawn.savefig(file, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
    return file.getvalue()


def told(drawn: Figure) -> str:
    """Return a picture in words, for those who do not see it: titles, axes and legends.

    >>> drawn, axes = figure()
    >>> _ = axes[0, 0].set(title="It falls", xlabel="step", ylabel="loss")
    >>> told(drawn)
    'It falls (loss over step)'
    """
    parts = [drawn.get_suptitle()]
    for ax in drawn.axes:
        axis = " over ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel())))
        legend = ax.get_legend()
        key = ", ".join(text.get_text() for text in legend.get_texts()) if legend else ""
        notes = "; ".join(filter(None, (axis, key)))
        parts.append(" ".join(filter(None, (ax.get_title(), notes and f"({notes})"))))
    return ". ".join(" ".join(part.split()) for part in dict.fromkeys(parts) if part)


def write(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write a text centred on a point."""
    ax.text(x, y, text, ha="center", va="center", **style)


def number(value: float, form: str) -> str:
    """Return a number as pictures and tables show it: "0" is an exact zero, "≈0" rounds to it.

    >>> [number(value, "+.2f") for value in (0.25, 0.0, -1e-9, float("nan"))]
    ['+0.25', '0', '≈0', 'NaN']
    """
    if value != value:
        return "NaN"
    try:
        text = f"{value:{form}}"
        return text if float(text) else "≈0" if value else "0"
    except ValueError:
        raise ValueError(f"form must be a format such as '+.2f', got {form!r}") from None


def write_numbers(ax: Axes, values: np.ndarray, form: str, dark: np.ndarray, **style: Any) -> None:
    """Write a number into each cell of a map, in white where the cell is `dark`.

    Zeros are pale where most cells are zeros, so that the others stand out.
    """
    texts = {at: number(value, form) for at, value in np.ndenumerate(values)}
    zeros = {at for at, text in texts.items() if text in ("0", "≈0")}
    for (row, column), text in texts.items():
        pale = (row, column) in zeros and 2 * len(zeros) > len(texts)
        color = "#AAAAAA" if pale else "white" if dark[row, column] else "black"
        write(ax, column, row, text, color=color, **style)


def expert_colors(num_experts: int) -> list[tuple[float, ...]]:
    """Return one colour (red, green, blue) per expert, the same for expert e in every picture.

    Colour-blind people can tell up to sixteen apart; more experts share one continuous map.

    >>> [tuple(round(part, 2) for part in color) for color in expert_colors(2)]
    [(0.9, 0.62, 0.0), (0.34, 0.71, 0.91)]
    """
    if num_experts > len(_SIXTEEN):
        return [tuple(color) for color in _colormap("viridis", 0, num_experts)[:, :3]]
    colors = [tuple(part / 255 for part in bytes.fromhex(name[1:])) for name in _SIXTEEN]
    return colors[:num_experts]


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
