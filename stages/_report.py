"""The text of results/report.md: tables from the metrics files of all stages. Pure: values in,
Markdown out."""

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.core.average_precision import SURE_IOU, SURE_PRECISION

STEPS = ("train", "prune", "retrain", "export")
STEP_NAMES = {
    "train": "full width, FP32",
    "prune": "pruned, not retrained",
    "retrain": "retrained with QAT",
    "export": "exported, INT8",
}

Metrics = Mapping[str, Any]
SENSITIVITY = "sensitivity"
SENSITIVITY_LEAD = (
    "What pruning one layer group alone costs, before any retraining, and what it saves "
    "(`results/prune/sensitivity.csv`):"
)


def render_report(
    results: Mapping[str, Metrics], *, events: Sequence[Metrics], pictures: Mapping[str, str]
) -> str:
    """Return the report in Markdown.

    results: metrics by name (`train`, `evaluate/train`, `engines`, ...). events: the gesture
    events of the demo clip. pictures: title -> path relative to the report; the one with the title
    SENSITIVITY stands below the pruning, the others at the end.
    """
    shown = {title: f"![{title}]({path})" for title, path in pictures.items()}
    sensitivity = [SENSITIVITY_LEAD, shown.pop(SENSITIVITY)] if SENSITIVITY in shown else []
    parts = [
        "# Report of the pipeline",
        "Written by the stage `report`; every figure comes from the metrics files beside it.",
        "## Data",
        data_table(results),
        "## Detector, step by step",
        detector_table(results),
        "## Pruning",
        pruning_table(results),
        *sensitivity,
        "## Videos of the test split",
        video_table(results.get("evaluate/export", {})),
        "## Gesture classifier",
        gesture_table(results.get("gesture", {})),
        "## Engines on this machine",
        engine_table(results.get("engines", {})),
        "## Gesture events of the test videos",
        event_accuracy(results.get("events", {})),
        "## The bundle at work",
        event_table(events),
        *(f"### {title}\n\n{picture}" for title, picture in shown.items()),
    ]
    return "\n\n".join(parts) + "\n"


def data_table(results: Mapping[str, Metrics]) -> str:
    """Return counts per split."""
    splits = results.get("split", {})
    names = [name for name in ("train", "val", "test") if isinstance(splits.get(name), Mapping)]
    keys = ("videos", "images", "boxes")
    return table(
        ("split", *keys), [(name, *(splits[name].get(key) for key in keys)) for name in names]
    )


def detector_table(results: Mapping[str, Metrics]) -> str:
    """Return accuracy and size after each of the four steps of the detector.

    The last column, TAO's own figure, is there only where TAO measured (backend=tao).
    """
    measured_by_tao = any("tao_map" in results.get(f"evaluate/{step}", {}) for step in STEPS)

    def own(measured: Metrics) -> list[Any]:
        return [measured.get("tao_map")] if measured_by_tao else []

    rows = []
    prune = results.get("prune", {})
    for step in STEPS:
        measured = results.get(f"evaluate/{step}", {})
        params = prune.get("params_before" if step == "train" else "params_after")
        figures = [
            measured.get(key)
            for key in ("ap50", "ap75", "ap", "ap_tao", "precision", "recall", "recall_sure")
        ]
        is_float = step == "export" and measured.get("precision") == "fp32"
        what = "exported, FP32 (INT8 with its cache)" if is_float else STEP_NAMES[step]
        rows.append((step, what, params, *figures, *own(measured)))
    header = (
        "step",
        "what",
        "parameters",
        "AP50",
        "AP75",
        "AP",
        "AP (TAO)",
        "precision",
        "recall",
        f"recall at precision {SURE_PRECISION:g}, IoU {SURE_IOU:g}",
        *(["mAP by TAO itself"] if measured_by_tao else []),
    )
    return table(header, rows)


def pruning_table(results: Mapping[str, Metrics]) -> str:
    """Return what the network costs before and after pruning, and the fraction that is left.

    The times are those of the stages evaluate@train and evaluate@prune.
    """
    prune = results.get("prune", {})
    if not prune:
        return table((), [])
    pairs = {
        "parameters": (prune.get("params_before"), prune.get("params_after")),
        "multiply-accumulates per frame": (prune.get("macs_before"), prune.get("macs_after")),
        "network, ms per frame (median; PyTorch, FP32, CPU)": tuple(
            results.get(f"evaluate/{step}_speed", {}).get("infer_ms_p50")
            for step in ("train", "prune")
        ),
    }
    rows = [
        (what, before, after, after / before if before and after else None)
        for what, (before, after) in pairs.items()
    ]
    return table(("cost", "before", "after", "left"), rows)


def video_table(measured: Metrics) -> str:
    """Return the accuracy of the exported model per video."""
    rows = [
        (row["video"], row.get("num_images"), row.get("num_boxes"), row.get("ap50"))
        for row in measured.get("per_video", [])
    ]
    return table(("video", "images", "boxes", "AP50"), rows)


def gesture_table(gesture: Metrics) -> str:
    """Return accuracy per gesture class and overall, or why nothing could be measured."""
    if gesture.get("encrypted"):
        return (
            f"NVIDIA's GestureNet ({gesture.get('gesturenet')}) is encrypted and has to be "
            "converted on the device; nothing was measured, and the bundle ran without gestures. "
            "Commands, and the JetPacks on which it can and cannot run: "
            "[gesture/convert.md](gesture/convert.md)."
        )
    rows = [
        (row["gesture"], row.get("precision"), row.get("recall"), row.get("num_crops"))
        for row in gesture.get("per_class", [])
    ]
    sources = [
        (row["source"], row.get("accuracy"), row.get("num_crops"))
        for row in gesture.get("per_source", [])
    ]
    overall = (
        f"Accuracy {number(gesture.get('accuracy'))} on {number(gesture.get('num_crops'))} crops, "
        f"expected calibration error {number(gesture.get('ece'))}; of the hands without a gesture "
        f"{number(gesture.get('false_alarm_share'))} would begin one, held still."
    )
    parts = [overall, table(("gesture", "precision", "recall", "crops"), rows)]
    if len(sources) > 1:
        parts.append(table(("source", "accuracy", "crops"), sources))
    return "\n\n".join(parts)


def engine_table(engines: Metrics) -> str:
    """Return AP per runtime and precision, as measured by the stage engines."""
    rows = [
        (name, *(row.get(key) for key in ("ap50", "ap")))
        for name, row in sorted(nested(engines).items())
    ]
    return table(("engine", "AP50", "AP"), rows)


def event_accuracy(measured: Metrics) -> str:
    """Return how right the events are: each gesture that is shown for half a second wants one."""
    if not measured.get("num_videos"):
        return "No test video has labelled gestures; nothing was measured."
    rows = [
        ("`begin` events that are right", measured["precision"], measured["num_begins"]),
        ("gestures that began an event", measured["recall"], measured["num_shown"]),
        (
            "hands without a gesture that began one",
            measured["false_alarm_frac"],
            measured["num_idle"],
        ),
    ]
    delays = (
        f"From the pose to `begin`: {number(measured['delay_p50_s'])} s (median), at most "
        f"{number(measured['delay_max_s'])} s, in {number(measured['num_videos'])} videos."
    )
    return table(("what", "share", "of"), rows) + "\n\n" + delays


def event_table(events: Sequence[Metrics], *, limit: int = 20) -> str:
    """Return the first begin and end events of the demo clip."""
    edges = [event for event in events if event["phase"] != "hold"]
    rows = [
        (e["time"], e["track"], e["phase"], e["gesture"], e["confidence"]) for e in edges[:limit]
    ]
    lead = f"{len(events)} events, {len(edges)} of them not `hold`."
    return lead + "\n\n" + table(("time (s)", "track", "phase", "gesture", "confidence"), rows)


def nested(values: Metrics, prefix: str = "") -> dict[str, Metrics]:
    """Return every mapping inside `values` that holds an AP50, under its slash-joined name."""
    found: dict[str, Metrics] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            name = f"{prefix}{key}"
            found.update({name: value} if "ap50" in value else nested(value, f"{name}/"))
    return found


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; numbers stand right. Without rows it says so."""
    if not rows:
        return "Nothing was measured."
    align = ["---" if isinstance(cell, str) else "---:" for cell in rows[0]]
    lines = [header, align, *([number(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: object) -> str:
    """Format a cell: three decimals for floats, thousands apart for counts, a dash for nothing.

    >>> number(0.91234), number(123456), number(None), number("ok")
    ('0.912', '123,456', '-', 'ok')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
