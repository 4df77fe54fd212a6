"""The archive for the device: which files go in, and bytes that are equal for equal files."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from deploy import manifest
from deploy.core.model_json import check_sha256, read_model_json

ROOT_NAME = "hand-gestures"
DEPLOY_SUFFIXES = (".Dockerfile", ".html", ".json", ".md", ".py", ".service", ".txt")
# Files of deploy/ that a reader of the archive looks for at its top.
TOP_FILES = {"README.md": "deploy/README.md", "requirements.txt": "deploy/requirements.txt"}
FILE_MODE = 0o644
# 2000-01-01: tar warns of a time of 0.
MODIFIED_S = 946684800


def collect_files(deploy: Path, models: Mapping[str, Path], engines: Path) -> dict[str, bytes]:
    """Return the content of every file of the bundle by its name in it, the manifest included.

    deploy: the package; models: folders by their name below models/ in the bundle; engines: the
    file that the stage `engines` wrote. Raises DeployError for a model folder with damaged files.
    """
    files = dict(_read_tree(deploy, "deploy", DEPLOY_SUFFIXES))
    versions = {}
    for name, folder in models.items():
        info = read_model_json(folder)
        check_sha256(folder, info)
        versions[name] = dict(info.versions)
        listed = [*info.files.values(), "model.json"]
        files.update({f"models/{name}/{file}": (folder / file).read_bytes() for file in listed})
    files.update({name: files[source] for name, source in TOP_FILES.items()})
    files["engines.json"] = to_json(shorten_choice(json.loads(engines.read_text())))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    files[manifest.FILE_NAME] = to_json(
        {"schema": manifest.SCHEMA_VERSION, "versions": versions, "files": hashes}
    )
    return files


def shorten_choice(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return what deploy.models reads of a choice: no latencies, which differ from run to run."""
    choice = {key: measured["choice"][key] for key in ("runtime", "precision")}
    return {
        "schema": measured["schema"],
        "fingerprint": measured["fingerprint"],
        "sha256": measured["sha256"],
        "choice": choice,
    }


def write_archive(stream: IO[bytes], files: Mapping[str, bytes]) -> None:
    """Write a .tar.gz whose bytes depend on names and contents alone (and zlib's version)."""
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as zipped,
        tarfile.open(mode="w", fileobj=zipped, format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(f"{ROOT_NAME}/{name}")
            entry.size, entry.mtime, entry.mode = len(files[name]), MODIFIED_S, FILE_MODE
            archive.addfile(entry, io.BytesIO(files[name]))


def to_json(content: object) -> bytes:
    """Return sorted, indented JSON as bytes."""
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _read_tree(folder: Path, name: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith((".", "__pycache__")) for part in relative.parts)
        if path.is_file() and path.suffix in suffixes and not hidden:
            yield f"{name}/{relative.as_posix()}", path.read_bytes()
