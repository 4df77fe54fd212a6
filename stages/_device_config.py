"""The `device` section: for which targets `engines` measures, and by which rule it chooses.

Imported by every stage through stages._schema, so it imports nothing heavy.
"""

from dataclasses import dataclass, field

THIS_MACHINE = "this-machine"
RUNTIMES = ("openvino", "onnxruntime", "tensorrt")
PRECISIONS = ("int8", "fp16", "fp32", "bf16")
BOARD_PRECISIONS = ("auto", "int8", "fp16", "fp32")


@dataclass  # not frozen: OmegaConf 2.3 would refuse to fill it in as a value of a mapping
class BoardConfig:
    """A device that is reached by OpenSSH's client, with a key and a known host key.

    host: as `ssh` takes it; by default the target's name, a Host entry of ~/.ssh/config. port,
    identity_file and known_hosts_file: null = as ~/.ssh/config says. folder: where on the device
    work is kept, below the home folder. python, environment: with what the programs run there.
    precision, dla: as for deploy.build; strict: fail where the device lacks that precision.
    offline_s: how long a device that does not answer is waited for; timeout_s: for the whole.
    """

    host: str | None = None
    port: int | None = None
    identity_file: str | None = None
    known_hosts_file: str | None = None
    folder: str = "hand-gestures-engines"
    python: str = "python3"
    environment: dict[str, str] = field(default_factory=dict)
    precision: str = "auto"
    dla: int | None = None
    strict: bool = False
    offline_s: float = 60.0
    timeout_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.precision not in BOARD_PRECISIONS:
            known = ", ".join(BOARD_PRECISIONS)
            raise ValueError(f"precision of a board is {self.precision!r}, known: {known}")
        for name in ("offline_s", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of a board is {getattr(self, name)}, expected above 0")


@dataclass(frozen=True)
class DeviceConfig:
    """What `engines` tries and measures.

    targets: this-machine, and names of boards. eval_images: frames of the test split, spread
    evenly, for the AP of each engine.
    warmup, repeats: inferences before and during the latency measurement, at batch 1.
    fp32_tolerance: largest absolute difference of fp32 outputs from ONNX Runtime's.
    max_ap50_drop: how far an engine's ap50 may be below the best one's and still be chosen.
    """

    targets: list[str] = field(default_factory=lambda: [THIS_MACHINE])
    boards: dict[str, BoardConfig] = field(default_factory=dict)
    runtimes: list[str] = field(default_factory=lambda: ["openvino", "onnxruntime"])
    precisions: list[str] = field(default_factory=lambda: ["int8", "fp32"])
    eval_images: int = 60
    warmup: int = 5
    repeats: int = 60
    fp32_tolerance: float = 1.0e-3
    max_ap50_drop: float = 0.02

    def __post_init__(self) -> None:
        _check_known("device.targets", self.targets, (THIS_MACHINE, *self.boards))
        if THIS_MACHINE not in self.targets:
            raise ValueError(f"device.targets lacks {THIS_MACHINE}, whose choice the bundle holds")
        _check_known("device.runtimes", self.runtimes, RUNTIMES)
        _check_known("device.precisions", self.precisions, PRECISIONS)
        for name in ("eval_images", "warmup", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"device.{name} is {getattr(self, name)}, expected 1 or more")
        for name in ("fp32_tolerance", "max_ap50_drop"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"device.{name} is {getattr(self, name)}, expected 0 or more")


def _check_known(name: str, values: list[str], known: tuple[str, ...]) -> None:
    unknown = [value for value in values if value not in known]
    if unknown or not values:
        seen = repr(unknown[0]) if unknown else "empty"
        raise ValueError(f"{name} is {seen}, known: {', '.join(known)}")
