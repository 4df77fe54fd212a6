"""Typed configuration of the TAO backend: `backend.tao`, with light imports only.

What both backends know (network, training, pruning, post-processing) stays in its own section;
here is what NVIDIA's toolkit alone asks for. The defaults are the values of NVIDIA's gesture demo.
"""

from dataclasses import dataclass, field

from stages.learning.checks import require_choice, require_range

GENERATIONS = ("tlt3", "tao3", "tao4", "tao5", "tao6")
WAYS = ("launcher", "docker")
FRAMES = ("stretch", "exact", "auto_resize")
# What python -m stages.tao.check looks at, in the order in which it is mended.
CHECKS = ("docker", "daemon", "runtime", "driver", "disk", "login", "launcher", "image")


@dataclass(frozen=True)
class TaoConfig:
    """Which toolkit, how it is started, and the fields of its specs that nothing else sets.

    generation: tlt3 (TLT 3.0), tao3 (3.21 to 3.22), tao4, tao5 (5.0 to 5.5) or tao6 (6.0 and
    later). via: NVIDIA's `launcher`, in an environment of its own, or `docker` run directly.
    image: another container image than the generation's; via=docker only. gpus: how many;
    gpu_indices: which, empty = the first ones. use_amp: mixed precision (train only).
    frames: TAO pads and crops silently what is not of the network's size, so `stretch` hands it
    frames resized to model.input_wh, `exact` refuses others, `auto_resize` leaves it to TAO
    (enable_auto_resize, not in tlt3). minimum_bbox_wh, vflip_probability: parsed by TAO 5, and
    not used by its default loader. evaluation_minimum_wh: smaller boxes do not count in TAO's mAP.
    overlap: its IoU. float_min_samples: dbscan_min_samples before TAO 5, where it was a float;
    later it is postprocess.min_samples. num_shards: files of a TFRecords set. unchecked: which of
    CHECKS do not stop a stage, where they are wrong about this machine.
    """

    generation: str = "tao5"
    via: str = "launcher"
    image: str | None = None
    gpus: int = 1
    gpu_indices: list[int] = field(default_factory=list)
    use_amp: bool = False
    frames: str = "stretch"
    checkpoint_interval_epochs: int = 10
    first_validation_epoch: int = 30
    evaluation_minimum_wh: list[int] = field(default_factory=lambda: [10, 20])
    overlap: float = 0.7
    minimum_bbox_wh: list[int] = field(default_factory=lambda: [10, 20])
    vflip_probability: float = 0.3
    float_min_samples: float = 0.05
    num_shards: int = 10
    unchecked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_choice("backend.tao.generation", self.generation, GENERATIONS)
        require_choice("backend.tao.via", self.via, WAYS)
        require_choice("backend.tao.frames", self.frames, FRAMES)
        for name in self.unchecked:
            require_choice("backend.tao.unchecked", name, CHECKS)
        if self.image is not None and self.via != "docker":
            raise ValueError(
                f"backend.tao.image is {self.image!r} with via={self.via}; the launcher chooses "
                "its image itself, set backend.tao.via to docker"
            )
        if self.frames == "auto_resize" and self.generation == "tlt3":
            raise ValueError("backend.tao.frames is auto_resize, which tlt3 lacks; use stretch")
        if self.gpu_indices and len(self.gpu_indices) != self.gpus:
            raise ValueError(
                f"backend.tao.gpu_indices is {list(self.gpu_indices)} with gpus={self.gpus}; "
                "expected one index per GPU, or []"
            )
        for name in ("gpus", "checkpoint_interval_epochs", "first_validation_epoch", "num_shards"):
            require_range(f"backend.tao.{name}", getattr(self, name), 1, 100_000)
        for name in ("overlap", "vflip_probability", "float_min_samples"):
            require_range(f"backend.tao.{name}", getattr(self, name), 0.0, 1.0)
        for name in ("evaluation_minimum_wh", "minimum_bbox_wh"):
            value = getattr(self, name)
            if len(value) != 2 or min(value) < 0:
                raise ValueError(f"backend.tao.{name} is {list(value)}; expected [width, height]")
