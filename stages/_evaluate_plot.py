"""The precision-recall figure of the stage evaluate."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deploy.core.average_precision import Curve, operating_point

COLORS = ("#0b6e4f", "#e07a1f", "#35608f", "#8a3b8f")


def draw_curves(path: Path, curves: Mapping[str, Curve], *, confidence_threshold: float) -> None:
    """Write a PNG with one precision-recall curve per name and its operating point as a dot.

    Equal curves give equal bytes. Works without a display.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for color, (name, curve) in zip(COLORS, curves.items(), strict=False):
        recall, envelope = steps(curve)
        point = operating_point(curve, confidence_threshold)
        label = f"{name}: F1 {point.f1:.3f} at confidence {confidence_threshold:g}"
        axes.fill_between(recall, envelope, step="pre", color=color, alpha=0.08, linewidth=0)
        axes.step(recall, envelope, where="pre", color=color, linewidth=1.8, label=label)
        axes.plot([point.recall], [point.precision], "o", color=color, markersize=7)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title("Hands at IoU 0.5", loc="left", fontsize=11)
    axes.grid(color="#d9d9d9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", metadata={"Software": None})


def steps(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and the highest precision at that recall or beyond it, from recall 0 on."""
    if not len(curve.recall):
        return np.zeros(1), np.zeros(1)
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return np.concatenate([[0.0], curve.recall]), np.concatenate([[envelope[0]], envelope])
