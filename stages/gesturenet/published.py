"""What NVIDIA published of GestureNet: versions in NGC, and the two configurations that feed it.

The network takes `input_1` (3, 160, 160) RGB and gives `activation_18` (6,). How pixels become
that tensor is not in the file, and NVIDIA's configurations disagree; the training code is closed:

- triton: the demo of TLT 3.0 (NVIDIA-AI-IOT/gesture_recognition_tlt_deepstream, nvinferserver):
  pixels / 255, padding at the right and the bottom, a margin of 200 pixels around the box, as the
  demo meant it (its code enlarges to the right and the bottom alone); its fifth class is "two".
- deepstream: NVIDIA-AI-IOT/deepstream_tao_apps up to DeepStream 7.1 (gesture_sgie_config.txt):
  (pixel - 128) / 256, padding on both sides, the square about the box; its fifth class is "raise".
  The square is 1.1 times the box, which is what NVIDIA's own training crops were (TAO's
  documentation of the GestureNet dataset tool: convert_bbox_square, bbox_enlarge_ratio).

Classes are spelt as everywhere in this project; their order is the published one.
"""

from types import MappingProxyType
from typing import NamedTuple

from deploy.core.preprocess import Preprocess
from deploy.core.roi import RoiRule
from stages.gesturenet.config import GESTURES, INPUT_WH

INPUT_NAME = "input_1"
OUTPUT_NAME = "activation_18"
INPUT_SHAPE = (3, INPUT_WH[1], INPUT_WH[0])


class Version(NamedTuple):
    """A version in NGC: its address, its name for NGC's client, and the configuration made for it.

    No checksum is published. The address of v1.0 is that of a zip, which the demo's README names.
    """

    url: str
    ngc_name: str
    preprocess: str


class Published(NamedTuple):
    """A configuration: how pixels become the tensor, what is cut out, and the classes in order."""

    preprocess: Preprocess
    roi: RoiRule
    classes: tuple[str, ...]


MODELS_URL = "https://api.ngc.nvidia.com/v2/models/nvidia"
NGC = MappingProxyType(
    {
        "deployable_v1.0": Version(
            f"{MODELS_URL}/tlt_gesturenet/versions/deployable_v1.0/zip",
            "nvidia/tlt_gesturenet:deployable_v1.0",
            "triton",
        ),
        "deployable_v2.0.2": Version(
            f"{MODELS_URL}/tao/gesturenet/versions/deployable_v2.0.2/files/model.etlt",
            "nvidia/tao/gesturenet:deployable_v2.0.2",
            "deepstream",
        ),
    }
)

CONFIGURATIONS = MappingProxyType(
    {
        "triton": Published(
            Preprocess(color="rgb", scale=1.0 / 255.0, resize="letterbox_topleft"),
            RoiRule(mode="pixels", margin_x=200.0, margin_y=200.0, square=False, border="clip"),
            GESTURES,
        ),
        "deepstream": Published(
            Preprocess(
                color="rgb", scale=1.0 / 256.0, offset=(128.0, 128.0, 128.0), resize="letterbox"
            ),
            RoiRule(mode="ratio", ratio=1.1, square=True, border="pad"),
            ("thumbs_up", "fist", "stop", "ok", "raise", "random"),
        ),
    }
)
