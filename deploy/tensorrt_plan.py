"""Which file of a model folder TensorRT builds, in which precision, and why. Pure.

| TensorRT | INT8 of the calibration cache | INT8 of a Q/DQ file | FP16 |
|---|---|---|---|
| 7.1 | yes | no | builder flag |
| 8.0 to 10.16 | yes | yes | builder flag |
| 11 | no | yes | typed ONNX file alone |

Nano, TX1 and TX2 (SM 5.3 and 6.2) have no INT8 path; a DLA takes the cache alone (NVIDIA's Model
Optimizer, pull request 1661: "DLA still only supports IQ").
"""

from typing import List, NamedTuple, Optional, Tuple

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo

AUTO = "auto"
BUILD_PRECISIONS = ("fp32", "fp16", "int8")
CACHE, QDQ = "cache", "qdq"
QUANTIZATIONS = (CACHE, QDQ)
WITHOUT_INT8 = ("5.3", "6.2")
AUTOCAST = (
    "python -m modelopt.onnx.autocast --onnx_path {onnx} --output_path {typed} "
    "--low_precision_type fp16 --keep_io_types"
)


class Capabilities(NamedTuple):
    """What a TensorRT on a device can do. sm: compute capability as "8.7"; dla_cores: how many."""

    version: str
    gpu: str
    sm: str
    has_precision_flags: bool
    has_calibration: bool
    reads_qdq: bool
    fast_fp16: bool
    fast_int8: bool
    dla_cores: int = 0


class BuildPlan(NamedTuple):
    """What is built: precision, where INT8 comes from, the file, and the reasons as text."""

    precision: str
    quantization: Optional[str]
    file: str
    calibration: Optional[str]
    dla: Optional[int]
    reason: str


def plan_build(
    capabilities: Capabilities,
    model: ModelInfo,
    *,
    precision: str = AUTO,
    quantization: str = AUTO,
    dla: Optional[int] = None,
    strict: bool = False,
) -> BuildPlan:
    """Choose precision and file; where INT8 or FP16 cannot be had the next one is taken.

    strict: fail instead of taking another precision than the one asked for.
    Raises DeployError for a DLA core that the device lacks, a precision that neither the model
    nor TensorRT has, and, with strict, for every replacement.
    """
    _check_dla(capabilities, dla)
    reasons: List[str] = []
    wanted = precision
    if precision == AUTO:
        wanted = "int8"
    source, why_not = _int8_source(capabilities, model, quantization, dla)
    if wanted == "int8" and source is None:
        _replace(reasons, why_not, strict=strict and precision == "int8", taken="fp16")
        wanted = "fp16"
    if wanted == "fp16" and not capabilities.fast_fp16 and dla is None:
        reason = f"{capabilities.gpu} has no fast FP16"
        _replace(reasons, reason, strict=strict and precision != AUTO, taken="fp32")
        wanted = "fp32"
    if wanted == "fp16" and not capabilities.has_precision_flags:
        return _typed_fp16(capabilities, model, precision, reasons, dla)
    if dla is not None and wanted == "fp32":
        raise DeployError(
            "a DLA computes FP16 and INT8 only; leave --dla out, or --precision fp16"
        )
    if wanted == "int8":
        reasons.append(_int8_reason(source, capabilities))
        return _int8_plan(model, source, dla, reasons)
    return BuildPlan(wanted, None, _float_file(model), None, dla, _join(reasons))


def _int8_source(
    capabilities: Capabilities, model: ModelInfo, quantization: str, dla: Optional[int]
) -> Tuple[Optional[str], str]:
    """Where INT8 comes from, or None and why there is none."""
    if not capabilities.fast_int8:
        return None, f"{capabilities.gpu} (SM {capabilities.sm}) has no INT8"
    usable = {
        QDQ: "qdq" in model.files and capabilities.reads_qdq and dla is None,
        CACHE: {"fp32", "calibration"} <= set(model.files) and capabilities.has_calibration,
    }
    wanted = (QDQ, CACHE) if quantization == AUTO else (quantization,)
    for source in wanted:
        if usable[source]:
            return source, ""
    have = ", ".join(sorted(set(model.files) & {"qdq", "calibration"})) or "neither"
    return None, (
        f"TensorRT {capabilities.version}{'' if dla is None else ' on a DLA'} takes INT8 from "
        f"{' or '.join(_takes(capabilities, dla)) or 'nothing'}, model {model.name} has {have}"
    )


def _takes(capabilities: Capabilities, dla: Optional[int]) -> List[str]:
    takes = ["a calibration cache"] if capabilities.has_calibration else []
    return takes + (["a Q/DQ file"] if capabilities.reads_qdq and dla is None else [])


def _replace(reasons: List[str], why: str, *, strict: bool, taken: str) -> None:
    if strict:
        raise DeployError(f"{why}; leave --strict out to build {taken} instead")
    reasons.append(f"{why}, so {taken}")


def _typed_fp16(
    capabilities: Capabilities,
    model: ModelInfo,
    precision: str,
    reasons: List[str],
    dla: Optional[int],
) -> BuildPlan:
    """TensorRT 11 computes in the types of the file: FP16 needs one that is typed so."""
    if "fp16" in model.files:
        reasons.append("the file is typed FP16")
        return BuildPlan("fp16", None, model.files["fp16"], None, dla, _join(reasons))
    onnx = _float_file(model)
    if precision == AUTO and dla is None:
        reasons.append(f"TensorRT {capabilities.version} takes types from the file, so fp32")
        return BuildPlan("fp32", None, onnx, None, None, _join(reasons))
    command = AUTOCAST.format(onnx=onnx, typed=typed_name(onnx))
    raise DeployError(
        f"TensorRT {capabilities.version} has no FP16 flag: it takes types from the file; build "
        f"fp32 or int8, or make {typed_name(onnx)} in the model folder: {command}"
    )


def typed_name(onnx: str) -> str:
    """Return the name of the FP16-typed file beside an ONNX file."""
    return onnx[: -len(".onnx")] + "_fp16.onnx" if onnx.endswith(".onnx") else onnx + "_fp16"


def _int8_plan(
    model: ModelInfo, source: Optional[str], dla: Optional[int], reasons: List[str]
) -> BuildPlan:
    if source == QDQ:
        return BuildPlan("int8", QDQ, model.files["qdq"], None, dla, _join(reasons))
    calibration = model.files["calibration"]
    return BuildPlan("int8", CACHE, model.files["fp32"], calibration, dla, _join(reasons))


def _int8_reason(source: Optional[str], capabilities: Capabilities) -> str:
    if source == QDQ:
        return f"int8: a Q/DQ file, which TensorRT {capabilities.version} reads"
    return "int8: calibration cache found"


def _float_file(model: ModelInfo) -> str:
    if "fp32" not in model.files:
        known = ", ".join(sorted(model.files))
        raise DeployError(
            f"model {model.name} has no FP32 ONNX file, it has: {known}; build --precision int8, "
            "or export the model again"
        )
    return model.files["fp32"]


def _check_dla(capabilities: Capabilities, dla: Optional[int]) -> None:
    if dla is not None and not 0 <= dla < capabilities.dla_cores:
        raise DeployError(
            f"{capabilities.gpu} has {capabilities.dla_cores} DLA cores, asked for core {dla}; "
            "leave --dla out" + (", or use 0" if capabilities.dla_cores else "")
        )


def _join(reasons: List[str]) -> str:
    return "; ".join(reasons) or "as asked"
