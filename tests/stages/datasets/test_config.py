import pytest

from stages.datasets.config import DatasetConfig, SplitConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "coco"}, "known: rendered, egohands, kitti"),
        ({"sha256": "abc"}, "64 lower-case hexadecimal digits"),
        ({"hand_types": []}, "such as"),
        ({"video_pattern": "("}, "no regular expression"),
        ({"video_pattern": "^.+$"}, "has no group"),
    ],
)
def test_wrong_dataset_values_are_refused_with_what_is_known(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DatasetConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [{"val_frac": -0.1}, {"test_frac": 1.0}, {"val_frac": 0.5, "test_frac": 0.5}]
)
def test_fractions_leave_something_for_training(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SplitConfig(**settings)  # type: ignore[arg-type]
