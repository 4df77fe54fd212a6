"""Run a rendered folder with the region of model.json, and send gesture events.

    python3 -m deploy.deepstream.margin_app --folder deepstream --events events.jsonl

The events are those of deploy.run, one JSON object per line (deploy/core/events.py). Needs the
Python bindings of the DeepStream that the folder was rendered for: pyds and gi up to 7.1,
pyservicemaker (and torch, to read tensors) from 7.1 on. `./run.sh` builds missing engines first.
"""

import argparse
import importlib
import json
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from deploy.core.errors import DeployError, UserError
from deploy.core.model_json import FILE_NAME, ModelInfo, parse_model_json
from deploy.deepstream.elements import Chains, add_elements, launch_text, make_chains
from deploy.deepstream.folder import MARGIN_FILE
from deploy.deepstream.margin import Margin
from deploy.deepstream.probes import Probes, PydsMeta, ServiceMakerMeta
from deploy.deepstream.versions import DeepStream, find_release
from deploy.sink import EventSink

FIRST_SERVICE_MAKER, LAST_PYDS = (7, 1), (7, 1)
BINDINGS = ("pyds", "pyservicemaker")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program; return 0, 1 for what a person can mend, or 2 for usage."""
    parser = argparse.ArgumentParser(
        "python3 -m deploy.deepstream.margin_app",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", required=True, metavar="DIR", help="of deploy.render")
    parser.add_argument(
        "--events", default="-", metavar="FILE", help="FILE.jsonl; - is the screen"
    )
    parser.add_argument("--bindings", choices=BINDINGS, help="default: what the release has")
    args = parser.parse_args(argv)
    try:
        run(Path(args.folder), args.events, args.bindings)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def run(folder: Path, events: str, bindings: Optional[str]) -> None:
    """Run to the end of the source. Raises DeployError for a missing folder or bindings."""
    setting = _read_json(folder / MARGIN_FILE)
    path = folder / "models" / f"gesture_{FILE_NAME}"
    model = parse_model_json(_read_json(path), source=str(path))
    release = find_release(setting["version"])
    chains = make_chains(setting, folder, release)
    chosen = choose_bindings(release, bindings)
    runner = _run_pyds if chosen == "pyds" else _run_service_maker
    sink = EventSink(events)
    width, height = setting["frame_wh"]
    sink.start((width, height), 0.0)
    try:
        runner(chains, setting, model, sink)
    finally:
        sink.close()


def choose_bindings(release: DeepStream, asked: Optional[str]) -> str:
    """Return "pyds" or "pyservicemaker". Raises DeployError for one that a release lacks."""
    has = {
        "pyds": release.number <= LAST_PYDS,
        "pyservicemaker": release.number >= FIRST_SERVICE_MAKER,
    }
    known = [name for name in BINDINGS if has[name]]
    if asked is None:
        return known[0]
    if not has[asked]:
        raise DeployError(
            f"DeepStream {release.version} is not used with {asked}; known: {', '.join(known)}"
        )
    return asked


def _probes(setting: Dict[str, Any], model: ModelInfo, meta: Any, sink: EventSink) -> Probes:
    width, height = setting["frame_wh"]
    margin = Margin(model, source=setting["source"], image_wh=(width, height))
    return Probes(margin, model, meta, sink.write, is_live=setting["is_live"])


def _run_pyds(chains: Chains, setting: Dict[str, Any], model: ModelInfo, sink: EventSink) -> None:
    pyds, gi = _import("pyds"), _import("gi")
    gi.require_version("Gst", "1.0")
    gst = importlib.import_module("gi.repository.Gst")
    gst.init(None)
    pipeline = gst.parse_launch(launch_text(chains))
    probes = _probes(setting, model, PydsMeta(pyds), sink)
    errors: List[Exception] = []

    def attach(element: str, act: Any) -> None:
        def probe(pad: Any, info: Any) -> Any:
            try:
                act(pyds.gst_buffer_get_nvds_batch_meta(hash(info.get_buffer())))
            except Exception as error:  # raised again below: GStreamer would only print it
                errors.append(error)
                pipeline.send_event(gst.Event.new_eos())
                return gst.PadProbeReturn.REMOVE
            return gst.PadProbeReturn.OK

        pad = pipeline.get_by_name(element).get_static_pad("src")
        pad.add_probe(gst.PadProbeType.BUFFER, probe)

    attach("detector", probes.expand)
    attach("gesture", probes.restore)
    try:
        pipeline.set_state(gst.State.PLAYING)
        kinds = gst.MessageType.EOS | gst.MessageType.ERROR
        message = pipeline.get_bus().timed_pop_filtered(gst.CLOCK_TIME_NONE, kinds)
    finally:
        pipeline.set_state(gst.State.NULL)
        probes.finish()
    if errors:
        raise errors[0]
    if message.type == gst.MessageType.ERROR:
        raise DeployError(
            f"GStreamer: {message.parse_error()[0].message}; see its log (GST_DEBUG)"
        )


def _run_service_maker(
    chains: Chains, setting: Dict[str, Any], model: ModelInfo, sink: EventSink
) -> None:
    maker, torch = _import("pyservicemaker"), _import("torch")

    def to_numpy(tensor: Any) -> Any:
        return torch.utils.dlpack.from_dlpack(tensor.clone()).cpu().numpy()

    probes = _probes(setting, model, ServiceMakerMeta(to_numpy), sink)
    pipeline = maker.Pipeline("gestures")
    errors: List[Exception] = []
    add_elements(pipeline, chains)
    for element, act in (("detector", probes.expand), ("gesture", probes.restore)):
        operator = _operator(maker, act, pipeline, errors)
        pipeline.attach(element, maker.Probe(element, operator))
    try:
        pipeline.start().wait()
    finally:
        probes.finish()
    if errors:
        raise errors[0]


def _operator(maker: Any, act: Any, pipeline: Any, errors: List[Exception]) -> Any:
    """Return an operator that keeps what it raises, since Service Maker aborts on exceptions."""

    class Operator(maker.BatchMetadataOperator):
        def handle_metadata(self, batch_meta: Any) -> None:
            if errors:
                return
            try:
                act(batch_meta)
            except Exception as error:
                errors.append(error)
                # From another thread: stopping waits for this one.
                threading.Thread(target=pipeline.stop, daemon=True).start()

    return Operator()


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DeployError(
            f"{name} is not installed ({error}); run this in NVIDIA's container, or install the "
            "bindings of your DeepStream (docs/deepstream.md)"
        ) from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeployError(
            f"{path}: cannot be read ({error}); make the folder with python -m deploy.render "
            "--target deepstream --gesture DIR"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
