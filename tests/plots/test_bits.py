"""The bits of numbers, and bars."""

from switch_np import plots


def test_float_bits_are_those_of_float32_and_the_last_16_are_hatched(ax):
    plots.float_bits(ax, [1.0, -0.15625], ["one", "minus 5/32"])
    digits = "".join(text.get_text() for text in ax.texts)
    assert digits == f"{0x3F800000:032b}" + f"{0xBE200000:032b}"
    assert sum(box.get_hatch() is not None for box in ax.patches) == 2 * 16


def test_bars_have_their_numbers(ax):
    plots.bars(ax, {"a": 1.0, "b": 2.5}, "things")
    assert [bar.get_width() for bar in ax.patches] == [1.0, 2.5]
    assert [text.get_text() for text in ax.texts] == ["1", "2.5"]
