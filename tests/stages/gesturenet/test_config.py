from pathlib import Path

import pytest
import yaml

from stages._config import section_of
from stages.gesturenet.config import DrawnConfig, GestureAugmentConfig, GestureConfig, RoiConfig

CONF = Path(__file__).parents[3] / "conf" / "gesture"
OPEN = CONF / "open.yaml"
GESTURENET = {"version", "preprocess", "path", "urls", "sha256"}
V2 = "deployable_v2.0.2"


def test_the_yaml_file_holds_the_defaults_and_every_key() -> None:
    content = yaml.safe_load(OPEN.read_text())
    assert section_of({"gesture": content}, GestureConfig) == GestureConfig()
    assert set(content) == set(vars(GestureConfig())) - GESTURENET
    assert set(content["augment"]) == set(vars(GestureAugmentConfig()))
    assert set(content["roi"]) == set(vars(RoiConfig()))
    assert set(content["drawn"]) == set(vars(DrawnConfig()))


def test_the_preset_of_real_hands_has_the_same_keys() -> None:
    real, default = (yaml.safe_load((CONF / name).read_text()) for name in ("real.yaml", OPEN))
    assert section_of({"gesture": real}, GestureConfig).drawn.videos > 0
    assert set(real) == set(default)
    for section in ("augment", "roi", "drawn"):
        assert set(real[section]) == set(default[section])


def test_the_yaml_file_of_gesturenet_holds_its_keys() -> None:
    content = yaml.safe_load((CONF / "gesturenet.yaml").read_text())
    config = section_of({"gesture": content}, GestureConfig)
    assert set(content) == GESTURENET | {"model", "roi"}
    assert (config.model, config.version, config.preprocess) == ("gesturenet", V2, "auto")
    assert config.roi.mode == "published"


def test_an_address_with_a_login_is_refused_without_showing_it() -> None:
    urls = ["https://anna:secret@example.org/model.etlt"]
    with pytest.raises(ValueError, match=r"a login in it") as caught:
        GestureConfig(model="gesturenet", version=V2, urls=urls)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: GestureConfig(model="closed"),
            "gesture.model is 'closed'; known choices: open, gesturenet",
        ),
        (lambda: DrawnConfig(videos=-1), "gesture.drawn.videos is -1"),
        (lambda: DrawnConfig(share=1.5), "gesture.drawn.share is 1.5"),
        (lambda: DrawnConfig(table_work_frac=-0.1), "gesture.drawn.table_work_frac is -0.1"),
        (lambda: GestureAugmentConfig(blur_probability=2.0), "augment.blur_probability is 2.0"),
        (lambda: GestureAugmentConfig(jpeg_min_quality=0), "augment.jpeg_min_quality is 0"),
        (lambda: GestureConfig(version=V2), "gesture.version is set, but gesture.model=open"),
        (lambda: GestureConfig(path="x.etlt"), "gesture.path is set, but gesture.model=open"),
        (lambda: GestureConfig(preprocess="triton"), "gesture.model=open knows auto"),
        (lambda: GestureConfig(roi=RoiConfig(mode="published")), "gesture.roi.mode 'published'"),
        (
            lambda: GestureConfig(model="gesturenet"),
            "gesture.version is None; known choices: deployable_v1.0, deployable_v2.0.2",
        ),
        (
            lambda: GestureConfig(model="gesturenet", version="deployable_v3"),
            "gesture.version is 'deployable_v3'; known choices: deployable_v1.0, deployable_v2",
        ),
        (
            lambda: GestureConfig(model="gesturenet", version=V2, preprocess="tao"),
            "gesture.preprocess is 'tao'; known choices: auto, triton, deepstream",
        ),
        (
            lambda: GestureConfig(model="gesturenet", version=V2, path="x", urls=["http://y"]),
            "gesture.path is 'x' and gesture.urls has 1; expected one",
        ),
        (
            lambda: GestureConfig(model="gesturenet", version=V2, sha256="ab"),
            "gesture.sha256 is 'ab'; expected 64 lower-case",
        ),
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
