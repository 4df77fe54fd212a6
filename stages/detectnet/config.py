"""Typed configuration of the open detector: the sections `model` and `train`.

Field names follow NVIDIA's DetectNet_v2 experiment spec where it has the same setting.
`FitConfig` is what every training loop reads (train, and the quantization-aware retrain);
`TrainConfig` is the `train` section. The defaults are the preset conf/train/default.yaml;
conf/train/tao.yaml is NVIDIA's.
"""

import dataclasses
from dataclasses import dataclass, field

from stages.learning.checks import PRECISIONS, require_choice, require_range

NUM_LAYERS = (10, 18, 34)
OPTIMIZERS = ("adam", "adamw", "muon")
SCHEDULES = ("soft_start_annealing", "one_cycle")
COVERAGE_LOSSES = ("tao", "balanced", "focal")
COVERAGE_TARGETS = ("ellipse", "iou")
BBOX_LOSSES = ("tao", "normalized", "giou", "normalized+giou")
SELECTIONS = ("last", "best")
ROTATED_BOXES = ("corners", "ellipse")
PROBABILITIES = (
    "hflip_probability",
    "rotate_probability",
    "gray_probability",
    "mosaic_probability",
    "paste_probability",
    "paste_decoy_frac",
    "paste_beside_frac",
)


@dataclass(frozen=True)
class ModelConfig:
    """The network at full width, and what it starts from.

    num_layers: 10, 18 or 34. width: channels of the first stage (64 = NVIDIA's), doubled by each
    of the three later stages. input_wh: network input in pixels, multiples of 16.
    all_projections: a 1x1 convolution in every shortcut instead of the first of each stage.
    pretrained: whose layers are taken where name and shape agree (pretrained.py): a model folder
    (model.pt and model.json) or its model.pt, of a float network; a Keras file of NVIDIA's, .hdf5;
    or, from NVIDIA's catalogue, "peoplenet" (resnet34) or "resnet" (of this depth, trained on
    pictures). null = random weights. Paths are absolute or relative to the repository root.
    pretrained_sha256: what that file must have, where it is a download or a Keras file; null =
    what the first download had.
    """

    num_layers: int = 10
    width: int = 16
    input_wh: list[int] = field(default_factory=lambda: [320, 192])
    all_projections: bool = True
    pretrained: str | None = None
    pretrained_sha256: str | None = None

    def __post_init__(self) -> None:
        require_choice("model.num_layers", self.num_layers, NUM_LAYERS)
        require_range("model.width", self.width, 4, 512)
        if len(self.input_wh) != 2 or any(side < 32 or side % 16 for side in self.input_wh):
            raise ValueError(
                f"model.input_wh is {list(self.input_wh)}; "
                "expected [width, height], multiples of 16, at least 32"
            )


@dataclass(frozen=True)
class OptimizerConfig:
    """Which optimiser, and its constants.

    "adam": as TensorFlow 1 writes it, epsilon outside the bias correction. "adamw". "muon": Muon,
    with momentum muon_momentum, for the trunk's kernels and AdamW for the rest.
    weight_decay is decoupled, on kernels only (not for adam). gradient_clip_norm 0 = no clipping.
    """

    name: str = "muon"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1.0e-8
    weight_decay: float = 0.1
    muon_momentum: float = 0.9
    gradient_clip_norm: float = 0.0

    def __post_init__(self) -> None:
        require_choice("optimizer.name", self.name, OPTIMIZERS)
        require_range("optimizer.beta1", self.beta1, 0.0, 0.9999)
        require_range("optimizer.beta2", self.beta2, 0.0, 0.99999)
        require_range("optimizer.weight_decay", self.weight_decay, 0.0, 10.0)
        require_range("optimizer.gradient_clip_norm", self.gradient_clip_norm, 0.0, 1.0e6)


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate against progress in [0, 1].

    soft_start_annealing: exponential rise until soft_start, flat, exponential fall after annealing
    (NVIDIA's). one_cycle: linear rise until soft_start, then cosine to minimum_learning_rate.
    """

    name: str = "one_cycle"
    soft_start: float = 0.15
    annealing: float = 0.7
    minimum_learning_rate: float = 1.0e-5

    def __post_init__(self) -> None:
        require_choice("schedule.name", self.name, SCHEDULES)
        require_range("schedule.soft_start", self.soft_start, 0.0, 0.999)
        require_range("schedule.annealing", self.annealing, self.soft_start, 0.999)


@dataclass(frozen=True)
class TargetConfig:
    """How boxes are drawn as coverage ellipses; names as in NVIDIA's bbox_rasterizer_config."""

    cov_center_x: float = 0.5
    cov_center_y: float = 0.5
    cov_radius_x: float = 0.4
    cov_radius_y: float = 0.4
    bbox_min_radius: float = 1.0
    deadzone_radius: float = 0.4

    def __post_init__(self) -> None:
        for name in ("cov_center_x", "cov_center_y", "cov_radius_x", "cov_radius_y"):
            require_range(f"targets.{name}", getattr(self, name), 0.0, 1.0)
        require_range("targets.deadzone_radius", self.deadzone_radius, 0.0, 1.0)


@dataclass(frozen=True)
class LossConfig:
    """Coverage and box losses and their weights.

    coverage "tao": cross-entropy with coverage_foreground_weight, mean over all cells;
    "balanced": the same cross-entropy, foreground and background averaged apart; "focal": cells
    weighted by their squared error. coverage_target: "ellipse" (NVIDIA's) or "iou", the fit of the
    box that a covered cell predicts. bbox "tao": |error| weighted by coverage / ellipse area, mean
    over all cells; "normalized": weighted mean over covered cells; "giou": 1 - generalised IoU;
    "normalized+giou": their sum. Initial and target weights, autoweighting and its bounds as in
    NVIDIA's cost_function_config. regularizer_l1: weight of sum |kernel| and sum |bias| of all
    convolutions.
    """

    coverage: str = "balanced"
    coverage_target: str = "ellipse"
    bbox: str = "normalized+giou"
    coverage_foreground_weight: float = 0.5
    coverage_weight: float = 1.0
    coverage_weight_target: float = 1.0
    bbox_weight: float = 1.0
    bbox_weight_target: float = 1.0
    autoweighting: bool = False
    minimum_weight: float = 1.0e-4
    maximum_weight: float = 0.9999
    regularizer_l1: float = 0.0

    def __post_init__(self) -> None:
        require_choice("loss.coverage", self.coverage, COVERAGE_LOSSES)
        require_choice("loss.coverage_target", self.coverage_target, COVERAGE_TARGETS)
        require_choice("loss.bbox", self.bbox, BBOX_LOSSES)
        require_range("loss.coverage_foreground_weight", self.coverage_foreground_weight, 0.0, 1.0)
        if self.coverage_weight + self.bbox_weight <= 0.0:
            raise ValueError("loss.coverage_weight + loss.bbox_weight must be above 0")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of one training picture and its boxes; names and units as in NVIDIA's spec.

    translate_max_*: network-input pixels. zoom_min, zoom_max: ratio, above 1 = zoom out.
    rotate_max_rad: radians. hue_rotation_max: degrees. saturation_shift_max, contrast_scale_max,
    brightness_scale_max: fractions of the [0, 1] pixel range. gray_probability: chance that all
    colour goes. clip_boxes: cut boxes at the picture's edge and drop those of which less than
    minimum_visible_frac is left (NVIDIA keeps them whole).
    rotated_boxes: "corners" as NVIDIA does, or "ellipse", which fits rounded things.
    stretch_max: width over height is changed by up to this fraction. mosaic_probability: chance
    that a picture is put together from four. paste_probability: chance that a piece of another
    picture is pasted in, tried paste_tries times; it is a hand, or with chance paste_decoy_frac
    a piece of the same size without one. paste_beside_frac of the hands are laid so that they
    touch one that is there.
    """

    enabled: bool = True
    hflip_probability: float = 0.5
    translate_max_x: int = 24
    translate_max_y: int = 16
    zoom_min: float = 0.8
    zoom_max: float = 1.2
    rotate_max_rad: float = 0.0
    rotate_probability: float = 1.0
    hue_rotation_max: float = 8.0
    saturation_shift_max: float = 0.2
    contrast_scale_max: float = 0.3
    contrast_center: float = 0.5
    brightness_scale_max: float = 0.2
    gray_probability: float = 0.0
    clip_boxes: bool = True
    minimum_visible_frac: float = 0.3
    rotated_boxes: str = "ellipse"
    stretch_max: float = 0.0
    mosaic_probability: float = 0.0
    paste_probability: float = 0.0
    paste_tries: int = 1
    paste_decoy_frac: float = 0.5
    paste_beside_frac: float = 0.0

    def __post_init__(self) -> None:
        require_range("augment.zoom_min", self.zoom_min, 0.1, self.zoom_max)
        require_range("augment.stretch_max", self.stretch_max, 0.0, 0.9)
        require_choice("augment.rotated_boxes", self.rotated_boxes, ROTATED_BOXES)
        for name in (*PROBABILITIES, "minimum_visible_frac"):
            require_range(f"augment.{name}", getattr(self, name), 0.0, 1.0)
        for name in ("translate_max_x", "translate_max_y", "paste_tries"):
            require_range(f"augment.{name}", getattr(self, name), 0, 10_000)


@dataclass(frozen=True)
class FitConfig:
    """One training run.

    batch_size is per device. seed decides everything random. ema_decay: decay per step of the
    averaged weights, 0 = off. freeze_batch_norm: running statistics and affine terms stay.
    validate_every_epochs: 0 = never (the last epoch is always validated otherwise). select: which
    weights are returned, the last or the best on the validation split by AP50. accelerator,
    devices, num_nodes, precision: Lightning Fabric's words, "auto" decides by the machine.
    compile: translate the network with torch.compile, which takes half a minute and makes a
    ResNet-18 on an H200 a quarter faster.
    """

    epochs: int = 14
    batch_size: int = 16
    learning_rate: float = 1.6e-2
    seed: int = 42
    ema_decay: float = 0.99
    freeze_batch_norm: bool = False
    validate_every_epochs: int = 8
    select: str = "last"
    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1
    precision: str = "auto"
    compile: bool = False
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        require_range("epochs", self.epochs, 1, 100_000)
        require_range("batch_size", self.batch_size, 1, 65_536)
        require_range(
            "learning_rate", self.learning_rate, self.schedule.minimum_learning_rate, 10.0
        )
        require_range("ema_decay", self.ema_decay, 0.0, 0.999999)
        require_range("validate_every_epochs", self.validate_every_epochs, 0, 100_000)
        require_choice("select", self.select, SELECTIONS)
        require_choice("precision", self.precision, PRECISIONS)


@dataclass(frozen=True)
class TrainConfig(FitConfig):
    """The `train` section: a fit from scratch, at full width."""


def to_plain(config: object) -> dict[str, object]:
    """Return a dataclass configuration as nested plain dictionaries, for logs and checkpoints."""
    return dataclasses.asdict(config)  # type: ignore[call-overload]
