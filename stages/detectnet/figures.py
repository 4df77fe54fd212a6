"""The picture of the sensitivity table: where pruning hurts, and what it buys there."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.detectnet.sensitivity import Sensitivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_INCHES = 0.46
NOTHING_COLOUR = "#ececec"


def draw_sensitivity(path: Path, rows: Sequence[Sensitivity], *, num_images: int) -> None:
    """Write a PNG with a line per layer group and a column per fraction to keep, three times.

    rows: as from measure_sensitivity, at least one. Left the AP50 that is lost, then the
    multiply-accumulates and the parameters that are saved. Grey: granularity and min_filters keep
    every channel. Equal rows give equal bytes. Works without a display.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fracs = list(dict.fromkeys(row.kept_frac for row in rows))
    groups = {row.convolutions: _label(row) for row in rows}
    figure = Figure(
        figsize=(4.6 + 2.6 * len(fracs), 1.5 + ROW_INCHES * len(groups)),
        dpi=110,
        layout="constrained",
    )
    shape = (len(groups), len(fracs))
    is_cut = np.reshape([row.kept < row.channels for row in rows], shape)
    saved_max = max(max(row.macs_saved_frac, row.params_saved_frac) for row in rows)
    whole = rows[0].ap50 + rows[0].ap50_drop
    panels = (
        (f"AP50 lost, of {whole:.3f}", "Reds", whole, "ap50_drop"),
        ("multiply-accumulates saved", "Greens", saved_max, "macs_saved_frac"),
        ("parameters saved", "Greens", saved_max, "params_saved_frac"),
    )
    for axes, (title, colours, high, field) in zip(
        figure.subplots(1, 3, sharey=True), panels, strict=True
    ):
        values = np.reshape([getattr(row, field) for row in rows], shape)
        texts = np.reshape([_cell_text(row, field) for row in rows], shape)
        _draw_heat_map(axes, np.where(is_cut, values, np.nan), texts, colours=colours, high=high)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(fracs)), [f"keep {frac:.0%}" for frac in fracs])
        axes.set_yticks(range(len(groups)), list(groups.values()))
    title = f"Each layer group pruned alone, not retrained, {num_images} validation frames"
    figure.suptitle(title, fontsize=11)
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})


def _draw_heat_map(
    axes: "Axes", values: np.ndarray, texts: np.ndarray, *, colours: str, high: float
) -> None:
    """Colour values (groups, fractions) from 0 to high, NaN grey, and write the texts on them."""
    axes.set_facecolor(NOTHING_COLOUR)
    # A network that finds nothing has nothing to lose; the scale must still have two ends.
    axes.imshow(values, cmap=colours, vmin=0.0, vmax=max(high, 1e-6), aspect="auto")
    axes.tick_params(length=0)
    for (row, column), text in np.ndenumerate(texts):
        colour = "white" if values[row, column] > 0.6 * high else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)


def _cell_text(row: Sensitivity, field: str) -> str:
    if row.kept == row.channels:
        return "all kept"
    if field == "ap50_drop":
        # Plus zero: a loss that rounds to nothing has no minus sign.
        return f"{round(row.ap50_drop, 3) + 0.0:.3f}\nkeeps {row.kept}"
    return f"{getattr(row, field):.0%}"


def _label(row: Sensitivity) -> str:
    """Name a group by its first convolution, with the number of others: long lists fit nowhere."""
    first, *others = row.convolutions.split("+")
    coupled = f" + {len(others)} coupled" if others else ""
    return f"{first}{coupled}, {row.channels} channels"
