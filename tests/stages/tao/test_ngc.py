"""NVIDIA's networks from its catalogue: URL, checksum, resume, cache, and its client."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.datasets.errors import DatasetError
from stages.tao.errors import TaoError
from stages.tao.ngc import (
    ENCRYPTED_PEOPLENET,
    HDF5_START,
    UNENCRYPTED_PEOPLENET,
    NgcModel,
    bring_model,
    check_file,
    find_model,
)
from tests.stages.datasets.file_server import QUICK, Server, serving

BODY = HDF5_START + bytes(range(256)) * 4000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("PATH", "/nowhere")  # no `ngc` of this machine
    with serving() as running:
        running.body = BODY
        yield running


def model_at(*urls: str) -> NgcModel:
    return NgcModel("nvidia/tao/net", "v1", "model.hdf5", urls)


def bring(model: NgcModel, place: Path, sha256: str | None = None) -> Path:
    return bring_model(model, sha256=sha256, downloads=place, retry=QUICK)


def test_the_second_address_is_tried_and_the_file_is_kept(server: Server, tmp_path: Path) -> None:
    model = model_at(server.url("/missing.zip"), server.url())
    path = bring(model, tmp_path)
    assert path.read_bytes() == BODY
    num_requests = len(server.log)
    assert bring(model, tmp_path) == path
    assert len(server.log) == num_requests


def test_a_cut_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut_after = [600_000]
    assert bring(model_at(server.url()), tmp_path).read_bytes() == BODY
    assert any(wanted for _, wanted in server.log)


def test_a_file_that_changed_since_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    path = bring(model_at(server.url()), tmp_path)
    path.write_bytes(HDF5_START + b"other")
    with pytest.raises(TaoError, match="run again to download it anew"):
        bring(model_at(server.url()), tmp_path)
    assert bring(model_at(server.url()), tmp_path).read_bytes() == BODY


def test_a_checksum_of_ones_own_is_held(server: Server, tmp_path: Path) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    assert bring(model_at(server.url()), tmp_path, digest).is_file()
    with pytest.raises(TaoError, match="pretrained_sha256 says 00"):
        bring(model_at(server.url()), tmp_path, "00")


def test_an_error_page_is_no_network(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="set model.pretrained to it"):
        bring(model_at(server.url("/page.zip")), tmp_path)


def test_the_client_is_taken_where_it_is_installed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "bin" / "ngc"
    client.parent.mkdir()
    client.write_text(
        '#!/bin/sh\nmkdir -p "$6/net_vv1"\nprintf "%s" "$4" > "$6/net_vv1/model.hdf5"\n'
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:/usr/bin:/bin")
    path = bring(model_at(server.url()), tmp_path / "cache")
    assert path.read_text() == "nvidia/tao/net:v1"
    assert server.log == []
    client.write_text("#!/bin/sh\necho 'not logged in' >&2; exit 1\n")
    assert bring(model_at(server.url()), tmp_path / "other").read_bytes() == BODY


def test_peoplenet_is_plain_or_encrypted_as_the_generation_reads_it() -> None:
    assert find_model("peoplenet", num_layers=34) is UNENCRYPTED_PEOPLENET
    encrypted = find_model("peoplenet", num_layers=34, encrypted=True)
    assert encrypted is ENCRYPTED_PEOPLENET
    assert (encrypted.key, encrypted.file) == ("tlt_encode", "resnet34_peoplenet.tlt")
    assert find_model("resnet", num_layers=18).urls[0] == (
        "https://api.ngc.nvidia.com/v2/models/nvidia/tao/pretrained_detectnet_v2/versions/"
        "resnet18/files/resnet18.hdf5"
    )
    with pytest.raises(TaoError, match="set model=resnet34"):
        find_model("peoplenet", num_layers=18)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.hdf5"
    with pytest.raises(TaoError, match="which is no file; expected peoplenet, resnet"):
        check_file(path, None)
    path.write_bytes(b"x")
    assert check_file(path, None) == path
    with pytest.raises(TaoError, match="model.pretrained_sha256 says ab"):
        check_file(path, "ab")
