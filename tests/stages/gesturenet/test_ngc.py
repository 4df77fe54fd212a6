"""GestureNet from a server on the loopback that stands in for NGC. Every byte of it is made up."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.core.errors import UserError
from deploy.core.model_json import check_sha256, read_model_json
from stages.gesturenet.config import VERSIONS, GestureConfig, RoiConfig
from stages.gesturenet.converting import Graph
from stages.gesturenet.errors import GestureError
from stages.gesturenet.ngc import bring_etlt, describe_gesturenet, read_graph, write_folder
from stages.gesturenet.published import CONFIGURATIONS, NGC
from tests.stages.datasets.file_server import QUICK, Server, serving

ETLT = b"\0\0\0\0" + b"made up for tests, not NVIDIA's " * 30_000  # about 1 MB
UFF = b"\x07\0\0\0input_1" + b"made up"
DIGEST = hashlib.sha256(ETLT).hexdigest()
CONFIG = GestureConfig(
    model="gesturenet", version="deployable_v2.0.2", roi=RoiConfig(mode="published")
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.body = ETLT
        yield server


def bring(config: GestureConfig, root: Path) -> bytes:
    return bring_etlt(config, root=root, downloads=root / "downloads", retry=QUICK)


def from_server(server: Server, path: str = "/files/model.etlt") -> GestureConfig:
    return replace(CONFIG, urls=[server.url(path)])


def make_zip(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, ETLT)
    return stream.getvalue()


def downloads(root: Path) -> list[Path]:
    return list((root / "downloads").iterdir())


def test_a_cut_download_goes_on_and_its_checksum_is_logged(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.cut_after = [600_000]
    caplog.set_level("INFO")
    assert bring(from_server(server), tmp_path) == ETLT
    assert [wanted is None for _, wanted in server.log] == [True, False]
    assert DIGEST in caplog.text
    assert bring(from_server(server), tmp_path) == ETLT
    assert len(server.log) == 2  # the second one took what was there
    assert len(downloads(tmp_path)) == 1


def test_a_wrong_checksum_is_one_line_and_the_next_run_downloads_again(
    server: Server, tmp_path: Path
) -> None:
    config = replace(from_server(server), sha256="0" * 64)
    with pytest.raises(GestureError) as caught:
        bring(config, tmp_path)
    message = str(caught.value)
    assert f"SHA-256 is {DIGEST}, gesture.sha256 says {'0' * 64}" in message
    assert "\n" not in message
    assert downloads(tmp_path) == []
    assert bring(replace(config, sha256=DIGEST), tmp_path) == ETLT


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/forbidden.zip", ["HTTP 403", "needs a login or a licence"]),
        ("/login.zip", ["HTTP 401", "needs a login or a licence"]),
        ("/missing.zip", ["HTTP 404"]),
    ],
)
def test_a_refusal_says_what_it_needs_and_the_other_way(
    server: Server, tmp_path: Path, path: str, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        bring(from_server(server, path), tmp_path)
    message = str(caught.value)
    words = [*words, "set gesture.path", "nvidia/tao/gesturenet:deployable_v2.0.2"]
    assert [word for word in words if word not in message] == []
    assert "dataset." not in message
    assert "\n" not in message
    assert downloads(tmp_path) == []


def test_no_network_is_one_line(tmp_path: Path) -> None:
    config = replace(CONFIG, urls=["http://127.0.0.1:9/model.etlt"])
    with pytest.raises(UserError, match=r"Connection refused.*set gesture\.path") as caught:
        bring(config, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_page_in_place_of_the_file_is_refused_and_not_kept(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(GestureError, match="is no .etlt file: it starts with b'<html>moved<'"):
        bring(from_server(server, "/page.zip"), tmp_path)
    assert downloads(tmp_path) == []


def test_a_zip_as_of_v1_gives_its_etlt(server: Server, tmp_path: Path) -> None:
    server.body = make_zip("labels.txt", "model.etlt")
    config = replace(from_server(server), version="deployable_v1.0", sha256=DIGEST)
    assert bring(config, tmp_path) == ETLT


def test_a_local_file_needs_no_network_and_stays(tmp_path: Path) -> None:
    (tmp_path / "model.etlt").write_bytes(ETLT)
    assert bring(replace(CONFIG, path="model.etlt"), tmp_path) == ETLT
    assert [path.name for path in tmp_path.iterdir()] == ["model.etlt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"gesture.path names .*model\.etlt, which is no file"),
        (b"", "is empty"),
        (b"\0\0\0\0", "is no .etlt file"),
        (b"\x08\x07\x12\x07pytorch an ONNX file", "is no .etlt file"),
        (b"\x07\0\0\0in", "is no .etlt file"),
        (make_zip("labels.txt"), r"holds 0 \.etlt files; expected one"),
        (make_zip("a.etlt", "b.etlt"), r"holds 2 \.etlt files; expected one"),
        (b"PK\x03\x04 cut off", "the zip cannot be read"),
    ],
)
def test_a_local_file_that_is_none_is_one_line(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "model.etlt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GestureError, match=message) as caught:
        bring(replace(CONFIG, path=str(path)), tmp_path)
    assert "\n" not in str(caught.value)
    assert path.exists() is (content is not None)


def test_the_header_says_what_is_inside() -> None:
    assert read_graph(ETLT, source="x") is Graph.ONNX
    assert read_graph(UFF, source="x") is Graph.UFF


@pytest.mark.parametrize(
    ("version", "preprocess", "expected"),
    [
        ("deployable_v1.0", "auto", "triton"),
        ("deployable_v2.0.2", "auto", "deepstream"),
        ("deployable_v1.0", "deepstream", "deepstream"),
        ("deployable_v2.0.2", "triton", "triton"),
    ],
)
def test_model_json_of_every_version_fits_the_schema(
    tmp_path: Path, version: str, preprocess: str, expected: str
) -> None:
    config = replace(CONFIG, version=version, preprocess=preprocess)
    written = write_folder(tmp_path, ETLT, config)
    info = read_model_json(tmp_path)
    check_sha256(tmp_path, info)
    assert info == written
    assert info.is_encrypted
    assert info.versions == {"gesturenet": version, "preprocess": expected}
    assert (info.input_name, info.input_shape) == ("input_1", (3, 160, 160))
    assert info.outputs == {"activation_18": (6,)}
    assert (info.preprocess, info.roi, info.classes) == CONFIGURATIONS[expected]
    names = {"gesturenet.etlt", "convert.md", "model.json"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_the_two_configurations_are_as_published() -> None:
    """By hand: the demo's nvinferserver file, and gesture_sgie_config.txt."""
    triton, deepstream = CONFIGURATIONS["triton"], CONFIGURATIONS["deepstream"]
    assert triton.preprocess.scale == pytest.approx(0.00392157, abs=1e-8)
    assert triton.preprocess.offset == (0.0, 0.0, 0.0)
    assert triton.preprocess.resize == "letterbox_topleft"
    assert triton.classes == ("thumbs_up", "fist", "stop", "ok", "two", "random")
    assert triton.roi[:5] == ("pixels", triton.roi.ratio, 200.0, 200.0, False)
    assert deepstream.preprocess.scale == 0.00390625
    assert deepstream.preprocess.offset == (128.0, 128.0, 128.0)
    assert deepstream.preprocess.resize == "letterbox"
    assert deepstream.classes == ("thumbs_up", "fist", "stop", "ok", "raise", "random")
    assert (deepstream.roi.mode, deepstream.roi.ratio, deepstream.roi.square) == (
        "ratio",
        1.1,
        True,
    )


def test_a_region_of_ones_own_overrules_the_published_one() -> None:
    config = replace(CONFIG, roi=RoiConfig(mode="ratio", ratio=1.8))
    roi = describe_gesturenet(config).roi
    assert roi is not None
    assert (roi.mode, roi.ratio) == ("ratio", 1.8)


def test_each_version_of_the_configuration_has_an_address() -> None:
    assert tuple(NGC) == VERSIONS
    assert all(version.url.startswith("https://api.ngc.nvidia.com/") for version in NGC.values())
