"""The command lines of detectnet_v2's sub-tasks, by generation; every path is the container's.

Sources: NVIDIA's demo notebook (up to 4.x, where -k is required) and
github.com/NVIDIA/tao_tensorflow1_backend cv/detectnet_v2/scripts (5.0 and later, where only the
training commands report to a results folder unasked). The sub-task comes first: the container's
entry point looks for it there alone.
"""

import os
import re

from stages.detectnet.compression_config import PruneConfig
from stages.tao.config import TaoConfig
from stages.tao.errors import TaoError
from stages.tao.generations import Generation

KEY_VARIABLE = "TAO_KEY"
# Arguments go through two shells unquoted, on their way into the container.
SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def read_key(generation: Generation, *, needed: bool = False) -> str | None:
    """Return the key of encrypted models, from the environment alone, or None.

    needed: an encrypted file is read although the generation itself does without a key.
    Raises TaoError, without the key in it, when it is missing or would not survive the shells.
    """
    key = os.environ.get(KEY_VARIABLE) or None
    if key is None:
        if not generation.is_open or needed:
            raise TaoError(
                f"{KEY_VARIABLE} is not set, and models are encrypted in "
                f"{generation.name}; choose a key and keep it, or take PeopleNet's public one, to "
                f"start from that: export {KEY_VARIABLE}=tlt_encode"
            )
        return None
    if not SAFE.fullmatch(key):
        raise TaoError(
            f"{KEY_VARIABLE} has characters that the launcher's shell would change; expected "
            "letters, digits and _@%+=:,./- alone"
        )
    return key


def dataset_convert(generation: Generation, *, spec: str, prefix: str, results: str) -> list[str]:
    """Make TFRecords named <prefix>-fold-...; from 5.0 on with a status file in results."""
    command = ["dataset_convert", "-d", spec, "-o", prefix]
    return [*command, "-r", results] if generation.is_open else command


def train(config: TaoConfig, *, spec: str, results: str, name: str, key: str | None) -> list[str]:
    """Train into results/weights/<name>; the same command again resumes."""
    command = ["train", "-e", spec, "-r", results, *_key(key), "-n", name]
    command += ["--gpus", str(config.gpus)]
    if config.gpu_indices:
        command += ["--gpu_index", *(str(index) for index in config.gpu_indices)]
    return [*command, "--use_amp"] if config.use_amp else command


def evaluate(
    generation: Generation, *, spec: str, model: str, results: str, key: str | None
) -> list[str]:
    """Measure a model on the spec's validation source."""
    command = ["evaluate", "-e", spec, "-m", model, *_key(key)]
    return [*command, "-r", results] if generation.is_open else command


def prune(
    generation: Generation,
    config: PruneConfig,
    *,
    model: str,
    output: str,
    results: str,
    key: str | None,
) -> list[str]:
    """Prune by config.threshold."""
    command = ["prune", "-m", model, "-o", output, *_key(key), "-eq", config.equalization]
    command += ["-pth", _plain(config.threshold or 0.0)]
    command += ["-n", "max" if config.normalizer == "max" else "L2"]
    command += ["-pg", str(config.granularity), "-nf", str(config.min_filters)]
    return [*command, "--results_dir", results] if generation.is_open else command


def export(
    generation: Generation,
    *,
    spec: str,
    model: str,
    output: str,
    results: str,
    key: str | None,
    ranges: str | None = None,
) -> list[str]:
    """Export a model; ranges: where those of a quantized one go, JSON (5.0 on) or a cache."""
    command = ["export", "-m", model, "-o", output, *_key(key)]
    if not generation.is_open:
        if ranges is None:
            return command
        return [*command, "--data_type", "int8", "--cal_cache_file", ranges, "--verbose"]
    command += ["-e", spec, "--onnx_route", "tf2onnx"]
    command += ["--cal_json_file", ranges] if ranges is not None else []
    return [*command, "--results_dir", results]


def inference(
    generation: Generation, *, spec: str, images: str, output: str, model: str, key: str | None
) -> list[str]:
    """Write KITTI labels of what a model finds below output/labels."""
    if generation.is_open:
        return ["inference", "-e", spec, "-i", images, "-r", output, "-m", model, *_key(key)]
    return ["inference", "-e", spec, "-o", output, "-i", images, *_key(key)]


def check_safe(arguments: list[str], *, secret: str | None) -> None:
    """Raise TaoError for an argument that a shell would change; `secret` is not shown."""
    for argument in arguments:
        if argument != secret and not SAFE.fullmatch(argument):
            raise TaoError(
                f"{argument!r} would be changed by the launcher's shell; expected letters, digits "
                "and _@%+=:,./- alone"
            )


def _key(key: str | None) -> list[str]:
    return ["-k", key] if key else []


def _plain(value: float) -> str:
    """Write a small number as the demo does, 0.0000052, without an exponent."""
    return f"{value:.12f}".rstrip("0").rstrip(".")
