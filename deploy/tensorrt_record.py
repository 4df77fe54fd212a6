"""Engines on disk: MODEL/tensorrt/PRECISION[-dlaN]/ with model.engine and engine.json.

engine.json says with what the engine was built; `check_record` compares that with this device,
because TensorRT neither loads engines of another version nor, safely, those of another GPU.
"""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo, hash_file

SCHEMA_VERSION = 1
FOLDER = "tensorrt"
ENGINE_NAME = "model.engine"
RECORD_NAME = "engine.json"
# The order in which "auto" takes what was built.
ORDER = ("int8", "fp16", "fp32")


class EngineRecord(NamedTuple):
    """The content of engine.json.

    profile: smallest, best and largest batch. file, onnx: name and SHA-256. calibration_sha256 is
    None without a cache. check: largest differences from the reference by tensor.
    """

    tensorrt: str
    gpu: str
    sm: str
    dla: Optional[int]
    precision: str
    quantization: Optional[str]
    profile: Tuple[int, int, int]
    onnx: str
    onnx_sha256: str
    calibration_sha256: Optional[str]
    engine_sha256: str
    seconds: float
    reference: str
    check: Dict[str, Any]

    @property
    def place(self) -> str:
        """Name of the engine's folder below MODEL/tensorrt/."""
        return place_name(self.precision, self.dla)


def place_name(precision: str, dla: Optional[int]) -> str:
    """Return the folder's name of an engine: `int8`, `fp16-dla0`."""
    return precision if dla is None else f"{precision}-dla{dla}"


def engine_folder(model_dir: Path, precision: str, dla: Optional[int] = None) -> Path:
    """Return where the engine of a model folder lies."""
    return Path(model_dir) / FOLDER / place_name(precision, dla)


def built_engines(model_dir: Path) -> List[Path]:
    """Return the folders of finished engines, the precision that "auto" takes first."""
    places = sorted(Path(model_dir).glob(f"{FOLDER}/*/{RECORD_NAME}"))
    folders = [place.parent for place in places if not place.parent.name.startswith(".")]
    rank = {precision: index for index, precision in enumerate(ORDER)}
    return sorted(folders, key=lambda f: (rank.get(f.name.split("-")[0], len(ORDER)), f.name))


def find_engine(model_dir: Path, precision: str) -> Optional[Path]:
    """Return the built engine of a precision ("auto": the best one), or None."""
    for folder in built_engines(model_dir):
        if precision in ("auto", folder.name.split("-")[0]):
            return folder
    return None


def rebuild_command(model_dir: Path, record: Optional[EngineRecord] = None) -> str:
    """Return the command line that builds an engine of a model folder again."""
    command = f"python3 -m deploy.build --model {model_dir}"
    if record is not None:
        command += f" --precision {record.precision} --batch {record.profile[2]}"
        command += "" if record.dla is None else f" --dla {record.dla}"
    return command


def write_record(folder: Path, record: EngineRecord) -> None:
    """Write folder/engine.json."""
    document = dict(record._asdict(), schema=SCHEMA_VERSION, profile=list(record.profile))
    text = json.dumps(document, indent=1, sort_keys=True)
    (folder / RECORD_NAME).write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path, model_dir: Path) -> EngineRecord:
    """Read folder/engine.json. Raises DeployError, with the rebuild command, for a damaged one."""
    path = folder / RECORD_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document.pop("schema")
        record = EngineRecord(**dict(document, profile=tuple(document["profile"])))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DeployError(
            f"{path}: cannot be read: {error}; build it: {rebuild_command(model_dir)}"
        ) from None
    if version != SCHEMA_VERSION or len(record.profile) != 3:
        raise DeployError(
            f"{path}: schema is {version!r}, this program reads {SCHEMA_VERSION}; build it: "
            f"{rebuild_command(model_dir)}"
        )
    return record


def check_record(
    record: EngineRecord,
    folder: Path,
    model_dir: Path,
    model: ModelInfo,
    *,
    tensorrt: str,
    gpu: str,
    sm: str,
) -> None:
    """Raise DeployError, one line with the rebuild command, for what does not fit this device.

    Compared: TensorRT's version, GPU and SM, the SHA-256 of the ONNX file and of the calibration
    cache in model.json, and the engine file's own.
    """
    fault = _device_fault(record, tensorrt=tensorrt, gpu=gpu, sm=sm) or _model_fault(record, model)
    path = folder / ENGINE_NAME
    if not fault and hash_file(path) != record.engine_sha256:
        fault = "engine is damaged (its sha256 is not the one in engine.json)"
    if fault:
        raise DeployError(f"{path}: {fault}; rebuild it: {rebuild_command(model_dir, record)}")


def _device_fault(record: EngineRecord, *, tensorrt: str, gpu: str, sm: str) -> str:
    if record.tensorrt != tensorrt:
        return f"engine was built with TensorRT {record.tensorrt}, this device has {tensorrt}"
    if (record.gpu, record.sm) != (gpu, sm):
        return f"engine was built for {record.gpu} (SM {record.sm}), this is {gpu} (SM {sm})"
    return ""


def _model_fault(record: EngineRecord, model: ModelInfo) -> str:
    if model.sha256.get(record.onnx, record.onnx_sha256) != record.onnx_sha256:
        return f"engine was built from another {record.onnx}"
    calibration = model.files.get("calibration", "")
    seen = model.sha256.get(calibration, record.calibration_sha256)
    if record.calibration_sha256 is not None and seen != record.calibration_sha256:
        return f"engine was built with another {calibration}"
    return ""
