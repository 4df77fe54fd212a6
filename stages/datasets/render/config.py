"""Settings of the renderer (section dataset.render). Light: no numpy, no cv2."""

from dataclasses import dataclass, field

FRACTIONS = (
    "person_frac",
    "bare_arm_frac",
    "cover_frac",
    "border_frac",
    "table_work_frac",
    "pose_variety",
)


@dataclass(frozen=True)
class RenderConfig:
    """What to draw. Fractions are in [0, 1]; heights are fractions of the frame's height."""

    seed: int = 0
    image_wh: list[int] = field(default_factory=lambda: [768, 432])
    train_videos: int = 240
    val_videos: int = 6
    test_videos: int = 12
    frames_per_video: int = 20  # of val and test: every frame in turn
    train_frames: int = 4  # of a training video: many rooms and people teach more than many frames
    train_step: int = 10  # frames from one of those to the next, as EgoHands' are seconds apart
    min_hand_height: float = 0.07
    max_hand_height: float = 0.45
    person_frac: float = 0.6  # videos with a partner (face, torso) opposite
    bare_arm_frac: float = 0.5  # people without long sleeves
    cover_frac: float = 0.42  # hands that get an object in front of them
    border_frac: float = 0.2  # waypoints that push a hand over the frame's border
    table_work_frac: float = 0.0  # videos of hands that play and handle things, without gestures
    pose_variety: float = 0.0  # 1: hands and forearms vary as people's do, and hands count too
    distractors: int = 1  # unlabelled skin-coloured things per room, at most
    clutter: int = 6  # objects per room, at most
    noise: float = 2.5  # sensor noise, grey levels
    jpeg_quality: int = 88

    def __post_init__(self) -> None:
        if len(self.image_wh) != 2 or min(self.image_wh) < 120:
            raise ValueError(
                f"image_wh is {self.image_wh}, expected [width, height] of at least 120"
            )
        for name in ("train_videos", "val_videos", "test_videos"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")
        for name in ("frames_per_video", "train_frames", "train_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not 0.0 < self.min_hand_height < self.max_hand_height <= 0.8:
            raise ValueError(
                f"hand heights are {self.min_hand_height} to {self.max_hand_height}, expected "
                "0 < min_hand_height < max_hand_height <= 0.8"
            )
        for name in FRACTIONS:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a fraction in [0, 1]")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality is {self.jpeg_quality}, expected 1 to 100")
