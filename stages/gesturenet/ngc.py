"""Bring NVIDIA's encrypted GestureNet, from NGC or a local file, and write its model folder.

An .etlt file starts with the length of the input's name as a little-endian 32-bit number: 0 where
ONNX is inside, else UFF and the name follows (tao_deploy, utils/decoding.py). The rest is
encrypted. No key is read, sent or written here.
"""

import hashlib
import io
import logging
import zipfile
from pathlib import Path

from deploy.core.model_json import ModelInfo, add_sha256, write_model_json
from stages.datasets.fetch import PATIENT, RetryPolicy, fetch
from stages.datasets.raw import local_path
from stages.gesturenet.config import PUBLISHED_ROI, GestureConfig
from stages.gesturenet.converting import ETLT, GUIDE, Graph, render_guide
from stages.gesturenet.errors import GestureError
from stages.gesturenet.published import (
    CONFIGURATIONS,
    INPUT_NAME,
    INPUT_SHAPE,
    NGC,
    OUTPUT_NAME,
    RoiRule,
)

LOGGER = logging.getLogger(__name__)
MAX_NAME_BYTES = 256
HEADER_BYTES = 4


def bring_etlt(
    config: GestureConfig, *, root: Path, downloads: Path, retry: RetryPolicy = PATIENT
) -> bytes:
    """Return the .etlt that the configuration names.

    root: what a relative gesture.path is relative to. downloads: where a download is kept, and its
    part until it is complete; one that turns out wrong is removed. Raises GestureError or
    DatasetError, one line, for whatever a person can mend.
    """
    if config.path is not None:
        path = local_path(config.path, root)
        if not path.is_file():
            raise GestureError(
                f"gesture.path names {path}, which is no file; expected GestureNet's model.etlt "
                "or NGC's zip"
            )
        return _read_checked(path, config)
    path = _download(config, downloads, retry)
    try:
        return _read_checked(path, config)
    except GestureError:
        path.unlink()
        raise


def write_folder(folder: Path, etlt: bytes, config: GestureConfig) -> ModelInfo:
    """Write the encrypted file, convert.md and model.json into an empty folder."""
    version = str(config.version)
    (folder / ETLT).write_bytes(etlt)
    (folder / GUIDE).write_text(render_guide(version, read_graph(etlt, source=ETLT)))
    info = add_sha256(folder, describe_gesturenet(config))
    write_model_json(folder, info)
    return info


def describe_gesturenet(config: GestureConfig) -> ModelInfo:
    """Return the content of model.json, without checksums."""
    version = str(config.version)
    name = NGC[version].preprocess if config.preprocess == "auto" else config.preprocess
    published = CONFIGURATIONS[name]
    own = config.roi
    is_published = own.mode == PUBLISHED_ROI
    return ModelInfo(
        kind="classifier",
        name="gesturenet",
        files={"etlt": ETLT, "convert": GUIDE},
        input_name=INPUT_NAME,
        input_shape=INPUT_SHAPE,
        outputs={OUTPUT_NAME: (len(published.classes),)},
        preprocess=published.preprocess,
        classes=published.classes,
        roi=published.roi if is_published else RoiRule(**vars(own)),
        versions={"gesturenet": version, "preprocess": name},
    )


def read_graph(content: bytes, *, source: str) -> Graph:
    """Return what is inside an .etlt. Raises GestureError for an empty file and for another kind.

    Only the header is readable: a file that starts with four zero bytes passes for ONNX.
    """
    if not content:
        raise GestureError(f"{source} is empty; copy GestureNet's model.etlt again")
    length = int.from_bytes(content[:HEADER_BYTES], "little")
    name = content[HEADER_BYTES : HEADER_BYTES + length]
    is_name = len(name) == length and name.isascii() and name.decode("latin-1").isprintable()
    if len(content) <= HEADER_BYTES + length or length > MAX_NAME_BYTES or not is_name:
        raise GestureError(
            f"{source} is no .etlt file: it starts with {content[:12]!r}; expected GestureNet's "
            "model.etlt as NGC has it"
        )
    return Graph.UFF if length else Graph.ONNX


def _download(config: GestureConfig, downloads: Path, retry: RetryPolicy) -> Path:
    version = NGC[str(config.version)]
    urls = config.urls or [version.url]
    place = hashlib.sha256("\0".join(urls).encode()).hexdigest()[:8]
    target = downloads / f"gesturenet_{config.version}_{place}"
    if target.is_file():
        LOGGER.info("gesture: taking the earlier download %s", target)
    fetch(
        urls,
        target,
        retry=retry,
        other_way="set gesture.path to its model.etlt (NVIDIA's client: ngc registry model "
        f"download-version {version.ngc_name})",
    )
    return target


def _read_checked(path: Path, config: GestureConfig) -> bytes:
    content = _unzip(path.read_bytes(), path)
    read_graph(content, source=str(path))
    digest = hashlib.sha256(content).hexdigest()
    if config.sha256 not in (None, digest):
        raise GestureError(
            f"{path}: the .etlt's SHA-256 is {digest}, gesture.sha256 says {config.sha256}; get "
            "the file again, or correct gesture.sha256"
        )
    if config.sha256 is None:
        LOGGER.info("gesture: not checked, gesture.sha256 is null; the .etlt's is %s", digest)
    return content


def _unzip(content: bytes, path: Path) -> bytes:
    """Return the only .etlt of a zip; other content as it is."""
    if not content.startswith(b"PK\x03\x04"):
        return content
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".etlt")]
            if len(names) == 1:
                return archive.read(names[0])
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise GestureError(f"{path}: the zip cannot be read: {error}; get it again") from None
    raise GestureError(f"{path}: the zip holds {len(names)} .etlt files; expected one")
