from pathlib import Path

import pytest
import yaml

from stages._config import section_of
from stages.gesturenet.config import GestureAugmentConfig, GestureConfig, RoiConfig

OPEN = Path(__file__).parents[3] / "conf" / "gesture" / "open.yaml"


def test_the_yaml_file_holds_the_defaults_and_every_key() -> None:
    content = yaml.safe_load(OPEN.read_text())
    assert section_of({"gesture": content}, GestureConfig) == GestureConfig()
    assert set(content) == set(vars(GestureConfig()))
    assert set(content["augment"]) == set(vars(GestureAugmentConfig()))
    assert set(content["roi"]) == set(vars(RoiConfig()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GestureConfig(model="closed"), "gesture.model is 'closed'; known choices: open"),
        (lambda: GestureConfig(epochs=0), "gesture.epochs is 0; expected 1"),
        (lambda: GestureConfig(resolutions=[100]), "gesture.resolutions is"),
        (lambda: GestureConfig(resolutions=[]), "gesture.resolutions is"),
        (lambda: RoiConfig(border="wrap"), "known choices: pad, clip, shift"),
        (lambda: RoiConfig(ratio=float("nan")), "gesture.roi.ratio is nan"),
        (lambda: GestureAugmentConfig(flip_probability=1.5), "gesture.augment.flip_probability"),
    ],
)
def test_a_wrong_value_is_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
