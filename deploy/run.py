"""Turn a video or a camera into gesture events, robot commands and annotated pictures.

    python -m deploy.run --source clip.mp4 --sink out.mp4 --sink events.jsonl

Sources: a video file, a folder of images, a camera (0, /dev/video0 or csi://0), rtsp://,
gst:PIPELINE. Sinks, any number: NAME.mp4, .avi or .webm, FOLDER/ of pictures, window; of events:
NAME.jsonl or -, mqtt://HOST/TOPIC, post+http://HOST/PATH, ros2://TOPIC; http://127.0.0.1:PORT (web
page, /events, /healthz, /metrics).
Ctrl-C ends in order: open gestures are closed by `lost` events and files are finished.
"""

import argparse
import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from deploy.capture import Decoder
from deploy.core.errors import DeployError, UserError
from deploy.gstreamer import CameraOptions, Flip
from deploy.health import Health
from deploy.latency import Latency
from deploy.logs import FORMATS, configure_logging, say
from deploy.options import open_engines
from deploy.pipeline import Pipeline
from deploy.plan import describe_plan
from deploy.recording import Recorder
from deploy.run_options import early_value, load_rule, parse_arguments
from deploy.running import Totals, run_source
from deploy.sink import make_sinks
from deploy.source import Source, open_source, quiet_opencv

LOGGER = logging.getLogger(__name__)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program; return 0, 1 for what a person can mend, or 2 for usage."""
    argv = list(sys.argv[1:] if argv is None else argv)
    form = early_value(argv, "--log-format") or FORMATS[0]
    try:
        args = parse_arguments(argv, description=str(__doc__))
        form = args.log_format
        configure_logging(form)
        quiet_opencv()
        if args.dry_run:
            sys.stdout.write(describe_plan(args, load_rule(args)))
            return 0
        totals = run(args)
    except UserError as error:
        say(str(error), form=form, is_error=True)
        return 1
    except KeyboardInterrupt:  # before the first frame; later it ends the run in order
        return 130
    paths = ", ".join([*args.sink, *args.command_sink]) or "no sink"
    say(
        f"run: {totals.frames} frames, {totals.fps:.1f} frames/s, {totals.events} events, "
        f"{totals.seconds:.1f} s -> {paths}",
        form=form,
    )
    return 0


def run(args: argparse.Namespace) -> Totals:
    """Open everything, run to the end of the source, and write the statistics."""
    latency, health = Latency(), Health()
    rule = load_rule(args)
    sinks = make_sinks(args.sink, commands=args.command_sink, health=health, latency=latency)
    recorder = None
    if args.record:
        recorder = Recorder(
            args.record, seconds=args.record_seconds, keep=args.record_keep, health=health
        )
    camera = CameraOptions(size_wh=args.size, flip=Flip(args.flip))
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(
            open_source(
                args.source,
                fps=args.fps,
                camera=camera,
                decoder=Decoder(args.decoder),
                readers=args.readers,
                health=health,
            )
        )
        engines = stack.enter_context(open_engines(args))
        if sinks.events and "gesture" not in engines:
            LOGGER.warning("no gesture model: hands are found, but no events are sent")
        pipeline = Pipeline(
            engines["detector"],
            engines.get("gesture"),
            source=source.uri,
            latency=latency,
            health=health,
            classify_every=args.classify_every,
        )
        totals = run_source(
            source,
            pipeline,
            sinks,
            rule=rule,
            recorder=recorder,
            max_frames=args.max_frames,
            deadline_s=args.deadline_ms / 1e3,
            health=health,
        )
        infos = {name: engine.info() for name, engine in engines.items()}
    if args.stats:
        _write_stats(Path(args.stats), totals, infos, latency, source)
    return totals


def _write_stats(
    path: Path, totals: Totals, engines: Dict[str, Any], latency: Latency, source: Source
) -> None:
    document = {
        "source": source.uri,
        "readers": source.num_readers,
        "frames": totals.frames,
        "events": totals.events,
        "dropped": totals.dropped,
        "seconds": round(totals.seconds, 4),
        "fps": round(totals.fps, 2),
        "engines": engines,
        "latency": latency.summary(),
    }
    try:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DeployError(f"stats {path} cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
