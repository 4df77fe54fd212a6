"""The GStreamer elements of the margin application, as plain values.

    source -> nvstreammux -> nvinfer -> nvinferserver -> nvdsosd -> tee -> sinks

There is no nvtracker: the tight boxes are followed in the probes. One description serves both
bindings: `launch_text` prints it for Gst.parse_launch, `add_elements` builds it in Service Maker.
"""

import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

from deploy.core.errors import DeployError
from deploy.deepstream.app_config import DETECTOR_FILE
from deploy.deepstream.endpoints import CAMERA_HZ, LAST_OVERLAY, VIDEO_BIT_RATE
from deploy.deepstream.folder import TENSOR_FILE
from deploy.deepstream.versions import DeepStream

# From here on one sink draws on the screen of every Jetson.
NV3D_SINK = (6, 2)
NVMM = "video/x-raw(memory:NVMM)"
MUXERS = {".mp4": "qtmux", ".mkv": "matroskamux"}


class Element(NamedTuple):
    """One element; name is unique in the pipeline."""

    factory: str
    name: str
    properties: Dict[str, Any]


class Chains(NamedTuple):
    """source ends in the muxer's pad sink_0; trunk begins with the muxer and ends with the tee."""

    source: List[Element]
    trunk: List[Element]
    sinks: List[List[Element]]


def make_chains(setting: Dict[str, Any], folder: Path, release: DeepStream) -> Chains:
    """Return the elements of a folder's margin.json. Raises DeployError for an unknown sink."""
    width, height = setting["frame_wh"]
    muxer = {
        "batch-size": 1,
        "width": width,
        "height": height,
        "live-source": int(setting["is_live"]),
        "batched-push-timeout": 40000,
    }
    trunk = [
        Element("nvstreammux", "mux", muxer),
        Element("nvinfer", "detector", {"config-file-path": str(folder / DETECTOR_FILE)}),
        Element("nvinferserver", "gesture", {"config-file-path": str(folder / TENSOR_FILE)}),
        Element("nvvideoconvert", "to_draw", {}),
        Element("nvdsosd", "draw", {}),
        Element("tee", "split", {}),
    ]
    sinks = [
        [Element("queue", f"queue{index}", {})] + _sink(uri, index, release)
        for index, uri in enumerate(setting["sinks"])
    ]
    return Chains(_source(setting), trunk, sinks)


def launch_text(chains: Chains) -> str:
    """Return the pipeline for Gst.parse_launch."""
    parts = [_chain_text(chains.source) + " ! mux.sink_0", _chain_text(chains.trunk)]
    parts += ["split. ! " + _chain_text(sink) for sink in chains.sinks]
    return "  ".join(parts)


def add_elements(pipeline: Any, chains: Chains) -> None:
    """Add and link everything in a pyservicemaker.Pipeline."""
    for chain in [chains.source, chains.trunk] + chains.sinks:
        for element in chain:
            pipeline.add(element.factory, element.name, element.properties)
        names = [element.name for element in chain]
        if len(names) > 1:
            pipeline.link(*names)
    pipeline.link((chains.source[-1].name, chains.trunk[0].name), ("", "sink_%u"))
    for sink in chains.sinks:
        pipeline.link((chains.trunk[-1].name, sink[0].name), ("src_%u", ""))


def _source(setting: Dict[str, Any]) -> List[Element]:
    uri = setting["source"]
    camera = re.match(r"(?:csi://|/dev/video)(\d+)$", uri)
    if camera is None:
        return [Element("uridecodebin", "source", {"uri": setting["uri"]})]
    caps = f"width=1280,height=720,framerate={CAMERA_HZ}/1"
    if uri.startswith("csi://"):
        return [
            Element("nvarguscamerasrc", "source", {"sensor-id": int(camera.group(1))}),
            Element("capsfilter", "camera_caps", {"caps": f"{NVMM},{caps}"}),
        ]
    return [
        Element("v4l2src", "source", {"device": uri}),
        Element("videoconvert", "to_raw", {}),
        Element("nvvideoconvert", "to_device", {}),
        Element("capsfilter", "camera_caps", {"caps": f"{NVMM},format=NV12"}),
    ]


def _sink(uri: str, index: int, release: DeepStream) -> List[Element]:
    suffix = Path(uri).suffix.lower()
    if uri == "window" and release.number < NV3D_SINK:
        return [
            Element("nvegltransform", f"transform{index}", {}),
            Element("nveglglessink", f"sink{index}", {"sync": 0}),
        ]
    overlay = "nvoverlaysink" if release.number <= LAST_OVERLAY else "nvdrmvideosink"
    single = {"fake": "fakesink", "window": "nv3dsink", "overlay": overlay, "drm": overlay}
    if uri in single:
        return [Element(single[uri], f"sink{index}", {"sync": 0})]
    if suffix not in MUXERS or "://" in uri:
        raise DeployError(
            f"the margin application has no sink {uri!r}; known: {', '.join(sorted(single))}, "
            "NAME.mp4, NAME.mkv; render the folder with one of them"
        )
    return [
        Element("nvvideoconvert", f"to_encode{index}", {}),
        Element("capsfilter", f"encode_caps{index}", {"caps": f"{NVMM},format=I420"}),
        Element("nvv4l2h264enc", f"encode{index}", {"bitrate": VIDEO_BIT_RATE}),
        Element("h264parse", f"parse{index}", {}),
        Element(MUXERS[suffix], f"container{index}", {}),
        Element("filesink", f"sink{index}", {"location": uri}),
    ]


def _chain_text(chain: Sequence[Element]) -> str:
    return " ! ".join(
        " ".join(
            [element.factory, f"name={element.name}"]
            + [f'{key}="{value}"' for key, value in element.properties.items()]
        )
        for element in chain
    )
