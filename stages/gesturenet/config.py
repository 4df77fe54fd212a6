"""Typed configuration of the gesture classifier: the section `gesture`.

The defaults are conf/gesture/open.yaml. Field names of `roi` are those of deploy.core.roi.RoiRule.
"""

import re
from dataclasses import dataclass, field, fields
from urllib.parse import urlsplit

from stages.datasets.render.config import RenderConfig
from stages.learning.checks import PRECISIONS, require_choice, require_range

# The order is GestureNet's (NGC model card; labels_gesturenet.txt of NVIDIA's demo): it is the
# model's output order.
GESTURES = ("thumbs_up", "fist", "stop", "ok", "two", "random")
INPUT_WH = (160, 160)

MODELS = ("open", "gesturenet")
# NGC's names of GestureNet's versions: the demo's, and the last one.
VERSIONS = ("deployable_v1.0", "deployable_v2.0.2")
# The two configurations that NVIDIA published; stages/gesturenet/published.py has their content.
PREPROCESSES = ("auto", "triton", "deepstream")
PUBLISHED_ROI = "published"
ROI_MODES = ("ratio", "pixels", PUBLISHED_ROI)
SHA256 = re.compile(r"[0-9a-f]{64}")
ROI_BORDERS = ("pad", "clip", "shift")


@dataclass(frozen=True)
class RoiConfig:
    """How a tight hand box becomes the classifier's region (deploy.core.roi.RoiRule).

    mode: "ratio" of the box or a margin in "pixels" of the frame; with gesture.model=gesturenet
    also "published", the rule of gesture.preprocess, for which the other keys do not count.
    square: the longer side for both. border: what happens at the frame's border.
    """

    mode: str = "ratio"
    ratio: float = 1.4
    margin_x: float = 200.0
    margin_y: float = 200.0
    square: bool = True
    border: str = "pad"

    def __post_init__(self) -> None:
        require_choice("gesture.roi.mode", self.mode, ROI_MODES)
        require_choice("gesture.roi.border", self.border, ROI_BORDERS)
        require_range("gesture.roi.ratio", self.ratio, 1.0, 4.0)
        require_range("gesture.roi.margin_x", self.margin_x, 0.0, 10_000.0)
        require_range("gesture.roi.margin_y", self.margin_y, 0.0, 10_000.0)


@dataclass(frozen=True)
class GestureAugmentConfig:
    """Random changes of one training crop.

    The box is disturbed as a detector would, before the region rule: box_shift_frac and
    box_scale_frac are standard deviations, in box sides and in log scale, cut at two of them.
    rotate_max_deg: uniform, to either side. lowres_min_px: the smallest side to which a crop is
    shrunk and enlarged again. gain_max, contrast_max, saturation_max and channel_gain_max:
    fractions, to either side; noise_max: standard deviation in [0, 1] pixel values;
    erase_max_frac: longest side of the erased rectangle in crop sides.

    What follows is off by default. region_scale_max: the region's size is changed by exp of up to
    this, to either side, as detectors draw looser or tighter boxes. turned_probability: crops that
    are turned and taught as `random` (stages/gesturenet/turning.py); gestures then point
    turned_min_deg or more away from upwards. background_probability: crops
    of gesture.folders whose background is plain (stages/gesturenet/backgrounds.py) get another
    one. gamma_max: the exponent is exp of up to this, to either side. shade_max: change of
    brightness across half a crop.
    blur_max_sigma: pixels. jpeg_min_quality: of 1 to 90.
    """

    enabled: bool = True
    flip_probability: float = 0.5
    box_shift_frac: float = 0.06
    box_scale_frac: float = 0.08
    rotate_max_deg: float = 20.0
    lowres_probability: float = 0.2
    lowres_min_px: int = 32
    gain_max: float = 0.3
    contrast_max: float = 0.3
    saturation_max: float = 0.5
    channel_gain_max: float = 0.1
    noise_probability: float = 0.2
    noise_max: float = 0.05
    erase_probability: float = 0.2
    erase_max_frac: float = 0.3
    region_scale_max: float = 0.0
    turned_probability: float = 0.0
    turned_min_deg: float = 90.0
    background_probability: float = 0.0
    gamma_max: float = 0.0
    grey_probability: float = 0.0
    shade_probability: float = 0.0
    shade_max: float = 0.5
    blur_probability: float = 0.0
    blur_max_sigma: float = 2.5
    jpeg_probability: float = 0.0
    jpeg_min_quality: int = 25

    def __post_init__(self) -> None:
        names = [one.name for one in fields(self)]
        for key in (name for name in names if name.endswith("_probability")):
            require_range(f"gesture.augment.{key}", getattr(self, key), 0.0, 1.0)
        for key in ("gain_max", "contrast_max", "saturation_max", "channel_gain_max", "gamma_max"):
            require_range(f"gesture.augment.{key}", getattr(self, key), 0.0, 1.0)
        require_range("gesture.augment.box_shift_frac", self.box_shift_frac, 0.0, 0.2)
        require_range("gesture.augment.box_scale_frac", self.box_scale_frac, 0.0, 0.2)
        require_range("gesture.augment.region_scale_max", self.region_scale_max, 0.0, 1.0)
        require_range("gesture.augment.turned_min_deg", self.turned_min_deg, 60.0, 180.0)
        require_range("gesture.augment.rotate_max_deg", self.rotate_max_deg, 0.0, 180.0)
        require_range("gesture.augment.lowres_min_px", self.lowres_min_px, 8, INPUT_WH[0])
        require_range("gesture.augment.shade_max", self.shade_max, 0.0, 1.0)
        require_range("gesture.augment.blur_max_sigma", self.blur_max_sigma, 0.5, 20.0)
        require_range("gesture.augment.jpeg_min_quality", self.jpeg_min_quality, 1, 90)
        require_range("gesture.augment.noise_max", self.noise_max, 0.0, 1.0)
        require_range("gesture.augment.erase_max_frac", self.erase_max_frac, 0.0, 1.0)


@dataclass(frozen=True)
class FolderConfig:
    """Crops of one's own, DIR/<class>/<source>_<number>.jpg (stages.gesturenet.label makes such).

    paths: class folders; they are trained on beside the hands that the dataset labels. ratio: side
    of these crops over the longer side of the hand's box. val, test: sources that are held out;
    both empty = a tenth of the sources each. joints: a table of the hands' joints in these crops
    (python -m stages.gesturenet.find_joints); null = their joints are unknown.
    """

    paths: list[str] = field(default_factory=list)
    ratio: float = 1.4
    val: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    joints: str | None = None

    def __post_init__(self) -> None:
        require_range("gesture.folders.ratio", self.ratio, 1.0, 4.0)


@dataclass(frozen=True)
class DrawnConfig:
    """Hands that are drawn for the classifier alone, beside those of the dataset.

    videos: rooms and people, each with one hand or more in several frames; 0 = none. seed: of the
    drawing. pose_variety, table_work_frac, cover_frac, min_hand_height and max_hand_height: as in
    dataset.render; hands at work are `random`. share: of each class's training crops, how many are
    drawn ones (the dataset's count as such where it is drawn); null = classes are balanced
    whatever the crops come from. random_weight: how much more often than a gesture `random` comes
    then, of which there is most to learn.
    """

    videos: int = 0
    seed: int = 7
    pose_variety: float = 1.0
    table_work_frac: float = 0.3
    cover_frac: float = 0.2
    min_hand_height: float = 0.14
    max_hand_height: float = 0.6
    share: float | None = None
    random_weight: float = 1.0

    def __post_init__(self) -> None:
        require_range("gesture.drawn.videos", self.videos, 0, 10_000_000)
        for key in ("pose_variety", "table_work_frac", "cover_frac"):
            require_range(f"gesture.drawn.{key}", getattr(self, key), 0.0, 1.0)
        require_range("gesture.drawn.random_weight", self.random_weight, 0.1, 10.0)
        if self.share is not None:
            require_range("gesture.drawn.share", self.share, 0.0, 1.0)


@dataclass(frozen=True)
class GestureConfig:
    """The `gesture` section.

    model: "open" trains the classifier of stages/gesturenet/model.py; "gesturenet" takes NVIDIA's
    encrypted GestureNet, for which only the keys up to sha256 and `roi` count. version: its name
    in NGC. preprocess: the published configuration that it is fed by; "auto" is that version's
    own. path: a local .etlt, or a zip that holds one, instead of a download. urls: the same from
    elsewhere, in order; none = NGC. sha256: of the .etlt; null = not checked, but logged.

    width: channels after the open model's stem; blocks: of each of its three stages. epochs:
    passes over as many crops as there are, classes in equal shares. resolutions: side in pixels of
    the training crops, each for an equal share of the epochs, the last one the network's own.
    ema_decay: decay per step of the averaged weights. num_calibration: crops from which the INT8
    ranges come. context_ratio, context_px: how much of the frame around the box a training crop
    keeps for disturbed boxes and rotation, and its side in memory. fallback: what is drawn for
    training where the dataset labels no gestures. drawn: more drawn hands. folders: crops of one's
    own. unlabelled_random: whether the hands of the dataset's own training videos without any
    gesture are `random` (EgoHands'). seed decides everything random. joints_weight: of the error
    of the hand's joints (fractions of the crop's side) beside the cross-entropy, where they are
    known (drawn hands, folders.joints); 0 = they are not learned. accelerator, precision:
    Lightning Fabric's words; "auto" decides by the machine.
    """

    model: str = "open"
    version: str | None = None
    preprocess: str = "auto"
    path: str | None = None
    urls: list[str] = field(default_factory=list)
    sha256: str | None = None
    width: int = 16
    blocks: list[int] = field(default_factory=lambda: [1, 1, 1])
    epochs: int = 24
    batch_size: int = 32
    resolutions: list[int] = field(default_factory=lambda: [160])
    learning_rate: float = 0.015
    weight_decay: float = 0.1
    warmup_frac: float = 0.1
    label_smoothing: float = 0.05
    joints_weight: float = 0.0
    ema_decay: float = 0.99
    num_calibration: int = 256
    context_ratio: float = 2.0
    context_px: int = 192
    seed: int = 42
    accelerator: str = "auto"
    precision: str = "32-true"
    roi: RoiConfig = field(default_factory=RoiConfig)
    drawn: DrawnConfig = field(default_factory=DrawnConfig)
    folders: FolderConfig = field(default_factory=FolderConfig)
    unlabelled_random: bool = False
    augment: GestureAugmentConfig = field(default_factory=GestureAugmentConfig)
    fallback: RenderConfig = field(default_factory=RenderConfig)

    def __post_init__(self) -> None:
        require_choice("gesture.model", self.model, MODELS)
        if self.model == "gesturenet":
            self._check_gesturenet()
        else:
            self._check_open()
        require_choice("gesture.precision", self.precision, PRECISIONS)
        require_range("gesture.width", self.width, 4, 64)
        require_range("gesture.joints_weight", self.joints_weight, 0.0, 1000.0)
        if len(self.blocks) != 3 or not all(1 <= num <= 8 for num in self.blocks):
            raise ValueError(
                f"gesture.blocks is {list(self.blocks)}; expected three numbers of 1 to 8, "
                "e.g. [2, 2, 2]"
            )
        require_range("gesture.epochs", self.epochs, 1, 100_000)
        require_range("gesture.batch_size", self.batch_size, 2, 65_536)
        require_range("gesture.learning_rate", self.learning_rate, 1.0e-6, 1.0)
        require_range("gesture.weight_decay", self.weight_decay, 0.0, 10.0)
        require_range("gesture.warmup_frac", self.warmup_frac, 0.0, 0.9)
        require_range("gesture.label_smoothing", self.label_smoothing, 0.0, 0.9)
        require_range("gesture.ema_decay", self.ema_decay, 0.0, 0.999999)
        require_range("gesture.context_ratio", self.context_ratio, 1.0, 8.0)
        require_range("gesture.context_px", self.context_px, 32, 1024)
        require_range("gesture.num_calibration", self.num_calibration, 1, 1_000_000)
        if not self.resolutions or any(side % 32 or side < 32 for side in self.resolutions):
            raise ValueError(
                f"gesture.resolutions is {list(self.resolutions)}; expected multiples of 32 in "
                "pixels, e.g. [96, 160]"
            )

    def _check_gesturenet(self) -> None:
        require_choice("gesture.version", self.version, VERSIONS)
        require_choice("gesture.preprocess", self.preprocess, PREPROCESSES)
        if self.path is not None and self.urls:
            raise ValueError(
                f"gesture.path is {self.path!r} and gesture.urls has {len(self.urls)}; "
                "expected one of them"
            )
        for url in self.urls:
            if "@" in urlsplit(url).netloc:
                raise ValueError(
                    "gesture.urls has an address with a login in it, which resolved.yaml and the "
                    "log would show; download the file and set gesture.path"
                )
        if self.sha256 is not None and not SHA256.fullmatch(self.sha256):
            raise ValueError(
                f"gesture.sha256 is {self.sha256!r}; expected 64 lower-case hexadecimal digits "
                "or null"
            )

    def _check_open(self) -> None:
        for name in ("version", "path", "urls", "sha256"):
            if getattr(self, name):
                raise ValueError(
                    f"gesture.{name} is set, but gesture.model=open trains its own model; choose "
                    "gesture=gesturenet, or leave it out"
                )
        if self.preprocess != "auto" or self.roi.mode == PUBLISHED_ROI:
            raise ValueError(
                f"gesture.preprocess is {self.preprocess!r} and gesture.roi.mode "
                f"{self.roi.mode!r}; gesture.model=open knows auto, and ratio or pixels"
            )
