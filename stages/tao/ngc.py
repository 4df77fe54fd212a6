"""Networks that NVIDIA has trained, from its catalogue NGC, or a file of one's own.

They are fetched by URL without an account, once: the download resumes, and lies in
.work/downloads/ngc beside the SHA-256 that it had, against which it is checked before each use.
NVIDIA's client `ngc` is tried first where it is installed, since it brings its own login.
"""

import logging
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from stages._files import hash_file
from stages.datasets.fetch import PATIENT, RetryPolicy, fetch
from stages.tao.errors import TaoError

LOGGER = logging.getLogger(__name__)
DOWNLOADS = Path(".work/downloads/ngc")
API = "https://api.ngc.nvidia.com/v2/models"
HDF5_START = b"\x89HDF\r\n\x1a\n"
CLIENT_TIMEOUT_S = 1800
PEOPLENET, RESNET = "peoplenet", "resnet"
NAMES = (PEOPLENET, RESNET)


class NgcModel(NamedTuple):
    """One file of the catalogue. key: with which it is encrypted, or None; num_layers: its own."""

    name: str
    version: str
    file: str
    urls: tuple[str, ...]
    key: str | None = None
    num_layers: int | None = None

    @property
    def client_name(self) -> str:
        """The name that `ngc registry model download-version` takes."""
        return f"{self.name}:{self.version}"


UNENCRYPTED_PEOPLENET = NgcModel(
    "nvidia/tao/peoplenet",
    "trainable_unencrypted_v2.6",
    "model.hdf5",
    (
        f"{API}/org/nvidia/team/tao/peoplenet/trainable_unencrypted_v2.6/files"
        "?redirect=true&path=model.hdf5",
        f"{API}/nvidia/tao/peoplenet/versions/trainable_unencrypted_v2.6/files/model.hdf5",
    ),
    num_layers=34,
)
ENCRYPTED_PEOPLENET = NgcModel(
    "nvidia/tao/peoplenet",
    "unpruned_v2.1",
    "resnet34_peoplenet.tlt",
    (
        f"{API}/nvidia/tao/peoplenet/versions/unpruned_v2.1/files/resnet34_peoplenet.tlt",
        f"{API}/nvidia/tlt_peoplenet/versions/unpruned_v2.1/files/resnet34_peoplenet.tlt",
    ),
    key="tlt_encode",
    num_layers=34,
)


def find_model(name: str, *, num_layers: int, encrypted: bool = False) -> NgcModel:
    """Return the catalogue's file for `peoplenet` or `resnet`.

    encrypted: for the generations that read encrypted models (PeopleNet's is then a .tlt).
    Raises TaoError when the network has another depth than the file.
    """
    if name == RESNET:
        return _resnet(num_layers)
    model = ENCRYPTED_PEOPLENET if encrypted else UNENCRYPTED_PEOPLENET
    if num_layers != model.num_layers:
        raise TaoError(
            f"model.pretrained is {name}, a ResNet{model.num_layers}, and model.num_layers is "
            f"{num_layers}; set model=resnet34, or model.pretrained=resnet"
        )
    return model


def bring_model(
    model: NgcModel,
    *,
    sha256: str | None = None,
    downloads: Path = DOWNLOADS,
    retry: RetryPolicy = PATIENT,
) -> Path:
    """Return the file, downloaded where it is missing; sha256: what it must have, if known.

    Raises TaoError for a wrong checksum, and DatasetError when no address delivers it.
    """
    folder = downloads / model.client_name.replace("/", "_").replace(":", "_")
    path, record = folder / model.file, folder / f"{model.file}.sha256"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
        if not _bring_by_client(model, path):
            start = HDF5_START if path.suffix == ".hdf5" else b""
            fetch(
                model.urls,
                path,
                expected_start=start,
                retry=retry,
                other_way=f"set model.pretrained to it ({model.client_name} of catalog.ngc.nvidia"
                ".com)",
            )
    return _check(path, record, sha256)


def check_file(path: Path, sha256: str | None) -> Path:
    """Return a file of one's own after checking it. Raises TaoError when it is not the one."""
    if not path.is_file():
        raise TaoError(
            f"model.pretrained is {path}, which is no file; expected {', '.join(NAMES)}, or a "
            ".hdf5 (TAO 5 and later) or .tlt file"
        )
    digest = hash_file(path)
    if sha256 not in (None, digest):
        raise TaoError(
            f"{path}: its SHA-256 is {digest}, model.pretrained_sha256 says {sha256}; get the "
            "file again, or correct that"
        )
    return path


def _resnet(num_layers: int) -> NgcModel:
    version = f"resnet{num_layers}"
    file = f"{version}.hdf5"
    paths = ("nvidia/tao/pretrained_detectnet_v2", "nvidia/tlt_pretrained_detectnet_v2")
    urls = tuple(f"{API}/{path}/versions/{version}/files/{file}" for path in paths)
    return NgcModel(paths[0], version, file, urls, num_layers=num_layers)


def _check(path: Path, record: Path, sha256: str | None) -> Path:
    """Compare with what is configured, and with what the first download had."""
    digest = hash_file(path)
    known = record.read_text().strip() if record.is_file() else None
    if (sha256 or known or digest) != digest:
        path.unlink()
        whose = "model.pretrained_sha256 says" if sha256 else "it was"
        raise TaoError(
            f"{path.name} has the SHA-256 {digest}, {whose} {sha256 or known}; it was removed, "
            "run again to download it anew, or correct model.pretrained_sha256"
        )
    if sha256 is None and known is None:
        LOGGER.info("%s: SHA-256 %s; set model.pretrained_sha256 to hold it", path.name, digest)
    record.write_text(f"{digest}\n")
    return path


def _bring_by_client(model: NgcModel, path: Path) -> bool:
    """Download with NVIDIA's client; False, with the reason in the log, when that fails."""
    client = shutil.which("ngc")
    if client is None:
        return False
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        command = [client, "registry", "model", "download-version", model.client_name]
        try:
            done = subprocess.run(
                [*command, "--dest", place],
                capture_output=True,
                text=True,
                timeout=CLIENT_TIMEOUT_S,
                check=False,
            )
            lines = (done.stderr + done.stdout).strip().splitlines()
        except subprocess.TimeoutExpired:
            lines = [f"no end after {CLIENT_TIMEOUT_S} s"]
        found = sorted(Path(place).rglob(model.file))
        if not found:
            LOGGER.info("ngc: %s; trying the URL", lines[-1] if lines else "no message")
            return False
        found[0].replace(path)
    return True
