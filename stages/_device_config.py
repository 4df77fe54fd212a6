"""The `device` section: for which targets `engines` measures, and by which rule it chooses.

Imported by every stage through stages._schema, so it imports nothing heavy.
"""

from dataclasses import dataclass, field

TARGETS = ("this-machine",)
RUNTIMES = ("openvino", "onnxruntime")
PRECISIONS = ("int8", "fp32", "bf16")


@dataclass(frozen=True)
class DeviceConfig:
    """What `engines` tries and measures.

    eval_images: frames of the test split, spread evenly, for the AP of each engine.
    warmup, repeats: inferences before and during the latency measurement, at batch 1.
    fp32_tolerance: largest absolute difference of fp32 outputs from ONNX Runtime's.
    max_ap50_drop: how far an engine's ap50 may be below the best one's and still be chosen.
    """

    targets: list[str] = field(default_factory=lambda: ["this-machine"])
    runtimes: list[str] = field(default_factory=lambda: ["openvino", "onnxruntime"])
    precisions: list[str] = field(default_factory=lambda: ["int8", "fp32"])
    eval_images: int = 60
    warmup: int = 5
    repeats: int = 60
    fp32_tolerance: float = 1.0e-3
    max_ap50_drop: float = 0.02

    def __post_init__(self) -> None:
        _check_known("device.targets", self.targets, TARGETS)
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
