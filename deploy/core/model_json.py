"""model.json: the one file that says what a model folder holds and how to feed and read it.

Its format is model_schema.json beside this module (JSON Schema, draft 7). Written by the stages,
read by evaluation and by the device, which need no YAML and no constant of their own.
"""

import hashlib
import json
import os
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Iterable, Mapping, NamedTuple, Optional, Tuple

from deploy.core.cluster import Postprocess
from deploy.core.errors import DeployError
from deploy.core.grid import Grid
from deploy.core.json_schema import find_errors
from deploy.core.preprocess import Preprocess
from deploy.core.roi import RoiRule

SCHEMA_VERSION = 1
FILE_NAME = "model.json"
SCHEMA_PATH = Path(__file__).with_name("model_schema.json")
NOTHING: Mapping[str, str] = MappingProxyType({})


class ModelInfo(NamedTuple):
    """The content of a model.json.

    kind: "detector" (has grid and postprocess) or "classifier" (has roi). files: name inside the
    folder by role, torch | tao | fp32 | qdq | calibration | etlt | convert. sha256: by file name.
    input_shape: channels, height, width; outputs: shape by tensor name; both without the batch
    axis.
    """

    kind: str
    name: str
    files: Mapping[str, str]
    input_name: str
    input_shape: Tuple[int, int, int]
    outputs: Mapping[str, Tuple[int, ...]]
    preprocess: Preprocess
    classes: Tuple[str, ...]
    grid: Optional[Grid] = None
    postprocess: Optional[Postprocess] = None
    roi: Optional[RoiRule] = None
    sha256: Mapping[str, str] = NOTHING
    versions: Mapping[str, str] = NOTHING

    @property
    def input_wh(self) -> Tuple[int, int]:
        """Width and height of the network input."""
        return self.input_shape[2], self.input_shape[1]

    @property
    def is_encrypted(self) -> bool:
        """Whether NVIDIA's converter has to make an engine first, because no file is ONNX."""
        return "etlt" in self.files and not {"fp32", "qdq"} & set(self.files)

    @property
    def map_names(self) -> Tuple[str, str]:
        """Names of a detector's coverage and box tensors, told apart by their channels, C and 4C.

        Raises DeployError when the model has no such pair of outputs.
        """
        num_classes = len(self.classes)
        by_channels = {shape[0]: name for name, shape in self.outputs.items() if len(shape) == 3}
        if num_classes not in by_channels or 4 * num_classes not in by_channels:
            shapes = {name: list(shape) for name, shape in self.outputs.items()}
            raise DeployError(
                f"model {self.name} is not a DetectNet_v2 detector: for {num_classes} classes "
                f"outputs of {num_classes} and {4 * num_classes} channels are expected, it has "
                f"{shapes}; give the folder of a detector"
            )
        return by_channels[num_classes], by_channels[4 * num_classes]


def read_model_json(folder: Path) -> ModelInfo:
    """Read and check folder/model.json.

    Raises DeployError, one line: no such file, no JSON, another schema version, a missing or
    unknown key, a value out of its range, a listed file that is not there.
    """
    path = Path(folder) / FILE_NAME
    info = parse_model_json(_load(path), source=str(path))
    for name in info.files.values():
        if not (Path(folder) / name).is_file():
            raise DeployError(
                f"{path}: lists {name}, which is not in the folder; copy it there, or make the "
                "folder again with the stage that wrote it"
            )
    return info


def parse_model_json(document: Any, *, source: str) -> ModelInfo:
    """Check the parsed JSON and make a ModelInfo of it; source names it in messages.

    Raises DeployError as read_model_json does, except for missing files.
    """
    version = document.get("schema") if isinstance(document, dict) else None
    if isinstance(document, dict) and version is not None and version != SCHEMA_VERSION:
        raise DeployError(
            f"{source}: schema is {version!r}; this program reads schema {SCHEMA_VERSION}; take "
            "deploy/ and the model folder from the same bundle, or export the model again"
        )
    errors = find_errors(document, load_schema())
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise DeployError(f"{source}: {errors[0]}{more}; export the model again")
    return _to_info(document)


def write_model_json(folder: Path, info: ModelInfo) -> Path:
    """Write folder/model.json (sorted keys, equal info gives equal bytes) and return its path.

    Raises ValueError when info does not fit the schema: that is a bug of the caller.
    """
    document = to_document(info)
    errors = find_errors(document, load_schema())
    if errors:
        raise ValueError(f"model.json of {info.name}: {'; '.join(errors)}")
    path = Path(folder) / FILE_NAME
    aside = path.with_name(FILE_NAME + ".part")
    text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False)
    aside.write_text(text + "\n", encoding="utf-8")
    os.replace(str(aside), str(path))
    return path


def to_document(info: ModelInfo) -> Dict[str, Any]:
    """Return the JSON value of info, plain numbers throughout."""
    document: Dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "kind": info.kind,
        "name": info.name,
        "files": dict(info.files),
        "sha256": dict(info.sha256),
        "input": {"name": info.input_name, "shape": [int(n) for n in info.input_shape]},
        "outputs": {name: [int(n) for n in shape] for name, shape in info.outputs.items()},
        "preprocess": {
            "color": info.preprocess.color,
            "scale": float(info.preprocess.scale),
            "offset": [float(value) for value in info.preprocess.offset],
            "resize": info.preprocess.resize,
        },
        "classes": list(info.classes),
        "versions": dict(info.versions),
    }
    if info.grid is not None:
        document["grid"] = _plain(info.grid._asdict())
    if info.postprocess is not None:
        document["postprocess"] = _plain(info.postprocess._asdict())
    if info.roi is not None:
        document["roi"] = _plain(info.roi._asdict())
    return document


def add_sha256(folder: Path, info: ModelInfo) -> ModelInfo:
    """Return info with the SHA-256 of each of its files, which must be in folder."""
    names = sorted(set(info.files.values()))
    return info._replace(sha256={name: hash_file(Path(folder) / name) for name in names})


def check_sha256(folder: Path, info: ModelInfo, *, roles: Optional[Iterable[str]] = None) -> None:
    """Raise DeployError for a file whose SHA-256 is not the one in model.json, or is not in it.

    roles: which of info.files to read; all of them by default.
    """
    for role in info.files if roles is None else roles:
        name = info.files[role]
        expected = info.sha256.get(name, "none")
        seen = hash_file(Path(folder) / name)
        if seen != expected:
            raise DeployError(
                f"{Path(folder) / name}: sha256 is {seen[:12]}..., model.json says "
                f"{expected[:12]}...; the file is damaged or of another export; copy the folder "
                "again"
            )


def hash_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file. Raises DeployError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(str(path), "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise DeployError(f"{path}: cannot be read: {error.strerror}; copy it again") from None
    return digest.hexdigest()


def load_schema() -> Dict[str, Any]:
    """Return the published JSON Schema of model.json."""
    return json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))


def _load(path: Path) -> Any:
    if not path.is_file():
        raise DeployError(
            f"{path}: no such file; expected a model folder that holds {FILE_NAME} "
            "(models/export, or models/ of an unpacked bundle)"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DeployError(f"{path}: is not JSON: {error}; copy the model folder again") from None


def _to_info(document: Dict[str, Any]) -> ModelInfo:
    preprocess = dict(document["preprocess"], offset=tuple(document["preprocess"]["offset"]))
    shape = document["input"]["shape"]
    return ModelInfo(
        kind=document["kind"],
        name=document["name"],
        files=document["files"],
        input_name=document["input"]["name"],
        input_shape=(shape[0], shape[1], shape[2]),
        outputs={name: tuple(sizes) for name, sizes in document["outputs"].items()},
        preprocess=Preprocess(**preprocess),
        classes=tuple(document["classes"]),
        grid=Grid(**document["grid"]) if "grid" in document else None,
        postprocess=Postprocess(**document["postprocess"]) if "postprocess" in document else None,
        roi=RoiRule(**document["roi"]) if "roi" in document else None,
        sha256=document["sha256"],
        versions=document["versions"],
    )


def _plain(fields: Mapping[str, Any]) -> Dict[str, Any]:
    """Give NumPy numbers their Python type, which json can write."""
    return {
        name: value.item() if hasattr(value, "item") else value for name, value in fields.items()
    }
