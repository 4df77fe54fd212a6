"""Typed schema of resolved.yaml: one frozen dataclass per section.

The rooms define their own sections beside their code (light imports only); this module adds those
that belong to no room and lists them all. Unknown keys and wrong types are refused against these
classes.
"""

from dataclasses import asdict, dataclass, field

from stages._device_config import DeviceConfig
from stages.datasets.config import DatasetConfig, SplitConfig
from stages.detectnet.compression_config import ExportConfig, PruneConfig, RetrainConfig
from stages.detectnet.config import ModelConfig, TrainConfig
from stages.gesturenet.config import GestureConfig
from stages.tao.config import TaoConfig

BACKENDS = ("torch", "tao")
TRACKING_MODES = ("local", "server", "off")


@dataclass(frozen=True)
class BackendConfig:
    """Which training backend runs the detector's stages; tao counts for NVIDIA's alone."""

    name: str = "torch"
    tao: TaoConfig = field(default_factory=TaoConfig)

    def __post_init__(self) -> None:
        check_choice("backend.name", self.name, BACKENDS)

    @property
    def is_tao(self) -> bool:
        """Whether NVIDIA's containers do the work."""
        return self.name == "tao"


@dataclass(frozen=True)
class PostprocessConfig:
    """Post-processing constants; they travel in model.json (fields as
    deploy.core.cluster.Postprocess)."""

    cluster: str
    coverage_threshold: float
    eps: float
    min_samples: float
    iou_threshold: float
    confidence: str
    confidence_threshold: float
    minimum_box_height: float
    inner_confidence: float = 0.0

    def __post_init__(self) -> None:
        # NumPy is behind this import; --help and configuration without it stay quick.
        from deploy.core.cluster import Postprocess, check_postprocess

        check_postprocess(Postprocess(**asdict(self)))


@dataclass(frozen=True)
class EvaluateConfig:
    """What `evaluate` measures: the split, and how many frames for pictures and for speed."""

    split: str = "test"
    num_samples: int = 12
    speed_images: int = 20
    limit: int | None = None

    def __post_init__(self) -> None:
        check_choice("evaluate.split", self.split, ("train", "val", "test"))


@dataclass(frozen=True)
class TrackingConfig:
    """Where runs are recorded: `local` SQLite in the repository root, an MLflow `server`, or
    `off`."""

    mode: str = "local"
    experiment: str = "hand-gestures"
    server_uri: str | None = None
    register_models: bool = True

    def __post_init__(self) -> None:
        check_choice("tracking.mode", self.mode, TRACKING_MODES)
        if self.mode == "server" and not self.server_uri:
            raise ValueError(
                "tracking.server_uri is empty, expected the server's address; "
                "set MLFLOW_TRACKING_URI or tracking.server_uri"
            )


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `known`."""
    if value not in known:
        raise ValueError(f"{name} is {value!r}, known: {', '.join(known)}")


SECTIONS: dict[str, type] = {
    "backend": BackendConfig,
    "dataset": DatasetConfig,
    "device": DeviceConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "gesture": GestureConfig,
    "model": ModelConfig,
    "postprocess": PostprocessConfig,
    "prune": PruneConfig,
    "retrain": RetrainConfig,
    "split": SplitConfig,
    "tracking": TrackingConfig,
    "train": TrainConfig,
}
