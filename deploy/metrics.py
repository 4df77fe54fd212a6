"""The counts and latencies of a run in the text format of Prometheus, version 0.0.4.

Source: prometheus.io/docs/instrumenting/exposition_formats. Names end in a unit or _total; times
are in seconds.
"""

from typing import Any, Dict, List, Mapping

from deploy.health import Snapshot

PREFIX = "hand_gestures_"
QUANTILES = {"p50_ms": "0.5", "p90_ms": "0.9", "p99_ms": "0.99"}


def format_metrics(snapshot: Snapshot, latency: Dict[str, Dict[str, float]]) -> str:
    """Return the page; latency is Latency.summary()."""
    lines: List[str] = []
    fps = snapshot.frames / snapshot.seconds if snapshot.seconds > 0 else 0.0
    _add(lines, "frames_total", "counter", "Frames processed.", {None: snapshot.frames})
    _add(
        lines,
        "frames_dropped_total",
        "counter",
        "Frames of a live source that nobody had time for.",
        {None: snapshot.dropped},
    )
    _add(lines, "events_total", "counter", "Events told, by phase.", snapshot.events, "phase")
    _add(lines, "faults_total", "counter", "Faults survived.", snapshot.faults, "kind")
    is_up = int("source" not in snapshot.ongoing and snapshot.idle_s is not None)
    _add(lines, "source_up", "gauge", "1 while the source gives frames.", {None: is_up})
    _add(lines, "frames_per_second", "gauge", "Of the whole run.", {None: round(fps, 3)})
    lines.append(f"# HELP {PREFIX}step_seconds Latest durations by step.")
    lines.append(f"# TYPE {PREFIX}step_seconds summary")
    for step, row in sorted(latency.items()):
        for key, quantile in QUANTILES.items():
            labels = f'{{step="{step}",quantile="{quantile}"}}'
            lines.append(f"{PREFIX}step_seconds{labels} {row[key] / 1e3:.7f}")
    return "\n".join(lines) + "\n"


def _add(
    lines: List[str],
    name: str,
    kind: str,
    text: str,
    values: Mapping[Any, float],
    label: str = "",
) -> None:
    lines.append(f"# HELP {PREFIX}{name} {text}")
    lines.append(f"# TYPE {PREFIX}{name} {kind}")
    for key, value in sorted(values.items(), key=str):
        labels = "" if key is None else f'{{{label}="{key}"}}'
        lines.append(f"{PREFIX}{name}{labels} {value}")
