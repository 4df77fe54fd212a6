"""Typed configuration of compression: the sections `prune`, `retrain` and `export`."""

from dataclasses import dataclass, field

from stages.detectnet.config import FitConfig, ScheduleConfig
from stages.learning.checks import require_choice, require_range

IMPORTANCES = ("l2", "l2_bn")
NORMALIZERS = ("max", "l2")
EQUALIZATIONS = ("union", "intersection", "arithmetic_mean", "geometric_mean")
CALIBRATIONS = ("max", "percentile", "entropy")
ACTIVATIONS = ("relu", "relu6")
PLACEMENTS = ("fused", "tao")
WEIGHT_AXES = ("channel", "tensor")
RANGE_RULES = ("calibrated", "moving_average")
WEIGHTS = ("pruned", "fresh")


@dataclass(frozen=True)
class SensitivityConfig:
    """How the table of results/prune/sensitivity.csv is measured, one layer group at a time.

    images: how many validation frames, evenly spread over the split; 0 = no table. kept_fracs: the
    fractions of a group's channels to keep, in [0, 1] and all different; granularity and
    min_filters hold too.
    """

    images: int = 24
    kept_fracs: list[float] = field(default_factory=lambda: [0.75, 0.5, 0.25])

    def __post_init__(self) -> None:
        require_range("prune.sensitivity.images", self.images, 0, 1_000_000)
        if not self.kept_fracs or len(set(self.kept_fracs)) < len(self.kept_fracs):
            raise ValueError(
                f"prune.sensitivity.kept_fracs is {list(self.kept_fracs)}; expected different "
                "fractions, e.g. [0.75, 0.5]; for no table set prune.sensitivity.images to 0"
            )
        for frac in self.kept_fracs:
            require_range("prune.sensitivity.kept_fracs", frac, 0.0, 1.0)


@dataclass(frozen=True)
class PruneConfig:
    """Which output filters go; NVIDIA's rule (facts in stages/detectnet/pruning.py).

    Exactly one is set: threshold, on the normalised filter norm; or params_frac or flops, the
    fraction in (0, 1) of the parameters or of the multiply-accumulates to keep at most, for which
    the threshold is searched. granularity: kept
    channels are rounded up to its multiple. min_filters: no layer gets thinner than this.
    min_frac: nor keeps a smaller fraction of its own filters, in [0, 1]; 0 is NVIDIA's rule.
    importance "l2" is NVIDIA's; "l2_bn" scales each filter's norm by the batch normalisation
    behind it. normalizer and equalization as in NVIDIA's `prune` command. sensitivity: the table
    of what each layer group stands; it decides nothing.
    """

    threshold: float | None = None
    params_frac: float | None = 0.4
    flops: float | None = None
    importance: str = "l2_bn"
    normalizer: str = "max"
    equalization: str = "union"
    granularity: int = 8
    min_filters: int = 16
    min_frac: float = 0.0
    sensitivity: SensitivityConfig = field(default_factory=SensitivityConfig)

    def __post_init__(self) -> None:
        require_choice("prune.importance", self.importance, IMPORTANCES)
        require_choice("prune.normalizer", self.normalizer, NORMALIZERS)
        require_choice("prune.equalization", self.equalization, EQUALIZATIONS)
        require_range("prune.granularity", self.granularity, 1, 512)
        require_range("prune.min_filters", self.min_filters, 1, 512)
        require_range("prune.min_frac", self.min_frac, 0.0, 1.0)
        goals = (self.threshold, self.params_frac, self.flops)
        if sum(goal is not None for goal in goals) != 1:
            raise ValueError(
                f"prune.threshold is {self.threshold}, prune.params_frac is "
                f"{self.params_frac} and prune.flops is {self.flops}; expected exactly one of "
                "them, the others null"
            )
        if self.threshold is not None:
            require_range("prune.threshold", self.threshold, 0.0, 1.0e6)
        if self.params_frac is not None:
            require_range("prune.params_frac", self.params_frac, 0.0, 1.0)
        if self.flops is not None:
            require_range("prune.flops", self.flops, 0.0, 1.0)


@dataclass(frozen=True)
class CalibrationConfig:
    """How the activations' ranges are found before quantization-aware training.

    method: "max" of all values, a "percentile" of them, or "entropy" (least information lost).
    images: how many training pictures are shown. percentile: 0 to 100, for that method.
    """

    method: str = "max"
    images: int = 64
    percentile: float = 99.99

    def __post_init__(self) -> None:
        require_choice("retrain.calibration.method", self.method, CALIBRATIONS)
        require_range("retrain.calibration.images", self.images, 1, 1_000_000)
        require_range("retrain.calibration.percentile", self.percentile, 50.0, 100.0)


def _recovery_fit() -> FitConfig:
    """Return the training of the pruned float network: like the first one, shorter and gentler."""
    return FitConfig(epochs=10, learning_rate=8.0e-3)


def _short_fit() -> FitConfig:
    """Return the quantization-aware tail: few steps, small and falling learning rate."""
    return FitConfig(
        epochs=1,
        learning_rate=5.0e-4,
        precision="32-true",
        schedule=ScheduleConfig(soft_start=0.05),
    )


@dataclass(frozen=True)
class RetrainConfig:
    """Recovery of a pruned network, in two phases; conf/retrain/tao.yaml has NVIDIA's choices.

    weights: what training starts with. "pruned": the weights that pruning left. "fresh": only the
    shape is kept, its weights are drawn from float_fit.seed; with as many epochs as both trainings
    of a pruned network take, one schedule from there gives the better network on drawn hands, and
    on real ones finds less in unseen rooms (docs/results.md).
    float_fit: ordinary training of that network, null = none, which "fresh" does not allow. Then
    ranges are calibrated, and qat_fit trains on with every convolution's weights and inputs
    rounded to 8 bits.
    batch_norm_images: on how many training pictures the statistics of batch normalisation are
    measured anew before all that; 0 = kept, as NVIDIA does. Fresh weights have none yet. They are
    measured again after a float_fit of fewer steps than batch_norm_steps, because running averages
    then still remember the network before; after a longer one the running averages are the better
    ones.
    quantize_heads: the two output layers' weights are rounded too (their inputs always are;
    NVIDIA leaves these weights in floating point).
    activation: of the retrained network in both phases; NVIDIA replaces every ReLU by ReLU6.
    fold_batch_norm: true = batch normalisation is folded before qat_fit, false = it stays while
    that trains and is folded into the rounded kernels afterwards, as NVIDIA does.
    placement: which outputs are rounded, "fused" or "tao" (see rounding.py). weight_axis: one
    range per output "channel" of a kernel, or one per "tensor". range_rule: "calibrated" ranges
    stay; with "moving_average" they only serve before qat_fit, whose steps average the largest
    values with range_decay, and kernels' ranges follow the kernels (see moving_ranges.py).
    distill_weight: share of both phases' loss, 0 to 1, that comes from imitating the unpruned
    network (the teacher, models/train; see distillation.py); 0 = no teacher. distill_fade_frac: in
    this last part of float_fit that share falls evenly to 0, and qat_fit imitates nobody; 0 = the
    share stays.
    """

    weights: str = "pruned"
    float_fit: FitConfig | None = field(default_factory=_recovery_fit)
    qat_fit: FitConfig = field(default_factory=_short_fit)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    batch_norm_images: int = 320
    batch_norm_steps: int = 300
    quantize_heads: bool = True
    activation: str = "relu"
    fold_batch_norm: bool = False
    placement: str = "fused"
    weight_axis: str = "channel"
    range_rule: str = "moving_average"
    range_decay: float = 0.9
    distill_weight: float = 0.0
    distill_fade_frac: float = 0.0

    def __post_init__(self) -> None:
        require_choice("retrain.weights", self.weights, WEIGHTS)
        if self.weights == "fresh" and self.float_fit is None:
            raise ValueError(
                "retrain.weights is fresh but retrain.float_fit is null; expected a float_fit, "
                "which alone trains fresh weights, or retrain.weights pruned, as retrain=tao and "
                "backend=tao want it"
            )
        require_range("retrain.batch_norm_images", self.batch_norm_images, 0, 1_000_000)
        require_range("retrain.batch_norm_steps", self.batch_norm_steps, 0, 1_000_000)
        require_choice("retrain.activation", self.activation, ACTIVATIONS)
        require_choice("retrain.placement", self.placement, PLACEMENTS)
        require_choice("retrain.weight_axis", self.weight_axis, WEIGHT_AXES)
        require_choice("retrain.range_rule", self.range_rule, RANGE_RULES)
        require_range("retrain.range_decay", self.range_decay, 0.0, 0.999999)
        require_range("retrain.distill_weight", self.distill_weight, 0.0, 1.0)
        require_range("retrain.distill_fade_frac", self.distill_fade_frac, 0.0, 1.0)
        if self.distill_fade_frac > 0.0 and self.float_fit is None:
            raise ValueError(
                "retrain.distill_fade_frac is above 0 but retrain.float_fit is null; expected a "
                "float_fit, in which imitation fades, or retrain.distill_fade_frac 0.0"
            )


@dataclass(frozen=True)
class ExportConfig:
    """What the exported files promise.

    tensorrt_version: named in the first line of calibration_qat.bin. tolerance_float: largest
    difference of the coverage between PyTorch and ONNX Runtime. tolerance_qdq: mean difference, as
    a fraction of what rounding to 8 bits changes on average; a rounding that tips over moves a
    value by a whole step, and how far that carries depends on the network (measured: 0.04 for a
    trained one, where it is 0.0002 of coverage, and 0.16 for one of two epochs). A mean below
    tolerance_float passes anyway: a long-trained network sees next to nothing in generated
    pictures, and rounding then changes as little (measured: 1.4e-5 of coverage).
    check_images: generated pictures that are compared.
    """

    tensorrt_version: str = "8.5.3"
    tolerance_float: float = 1.0e-4
    tolerance_qdq: float = 0.5
    check_images: int = 4

    def __post_init__(self) -> None:
        parts = self.tensorrt_version.split(".")
        if len(parts) != 3 or not all(part.isdecimal() for part in parts):
            raise ValueError(
                f"export.tensorrt_version is {self.tensorrt_version!r}; expected major.minor.patch"
            )
        require_range("export.tolerance_float", self.tolerance_float, 0.0, 1.0)
        require_range("export.tolerance_qdq", self.tolerance_qdq, 0.0, 1.0)
        require_range("export.check_images", self.check_images, 1, 1000)
