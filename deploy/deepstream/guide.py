"""The scripts and README of a rendered folder: how models become engines, what to run."""

from typing import List, Mapping, NamedTuple, Optional

from deploy.core.model_json import ModelInfo
from deploy.deepstream.versions import DeepStream, parse_number

TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
WORKSPACE_MB = 1024


class Build(NamedTuple):
    """An engine to build: its ONNX file, where the plan goes, precision and largest batch."""

    model: ModelInfo
    onnx: str
    plan: str
    precision: str
    max_batch_size: int
    calibration: Optional[str] = None


def trtexec_line(build: Build, release: DeepStream) -> str:
    """Return the trtexec command of a release's TensorRT.

    Source: samples/common/sampleOptions.cpp of NVIDIA/TensorRT, 7.1 to 10.
    """
    tensorrt = parse_number(release.tensorrt)
    shape = "x".join(str(extent) for extent in build.model.input_shape)
    name = build.model.input_name
    words = [TRTEXEC, f"--onnx={build.onnx}", f"--saveEngine={build.plan}"]
    if tensorrt < (8, 0):
        words.append("--explicitBatch")
    words += [
        f"--{which}Shapes={name}:{batch}x{shape}"
        for which, batch in (("min", 1), ("opt", 1), ("max", build.max_batch_size))
    ]
    if tensorrt < (8, 4):
        words.append(f"--workspace={WORKSPACE_MB}")
    else:
        words.append(f"--memPoolSize=workspace:{WORKSPACE_MB}")
    if build.precision in ("int8", "qdq"):
        words.append("--int8")
    if build.precision != "fp32":
        words.append("--fp16")
    if build.calibration is not None:
        words.append(f"--calib={build.calibration}")
    return " ".join(words)


def run_script(
    builds: List[Build], release: DeepStream, command: str, *, needed: Mapping[str, str]
) -> str:
    """Return the shell script that builds what is missing, and then runs the command.

    needed: plans that it cannot build, and the guide to each; without one it ends with a line.
    """
    lines = ["#!/usr/bin/env bash", "set -euo pipefail", 'cd "$(dirname "$0")"']
    for build in builds:
        lines += [
            f"if [ ! -s {build.plan} ]; then",
            # Written aside first: a build that is broken off leaves no half plan behind.
            "  " + trtexec_line(build._replace(plan=build.plan + ".part"), release),
            f"  mv {build.plan}.part {build.plan}",
            "fi",
        ]
    for plan, hint in needed.items():
        lines += [
            f"if [ ! -s {plan} ]; then",
            f'  echo "error: {plan} is missing; {hint} says how to make it" >&2',
            "  exit 1",
            "fi",
        ]
    return "\n".join(lines + [f'exec {command} "$@"']) + "\n"


def readme(release: DeepStream, *, folder_name: str, notes: List[str], has_gesture: bool) -> str:
    """Return the README of a rendered DeepStream folder."""
    device = "--runtime nvidia" if release.number < (7, 0) else "--runtime nvidia --gpus all"
    lines = [
        f"# Hand gestures on DeepStream {release.version}",
        "",
        f"For JetPack {release.jetpack} (TensorRT {release.tensorrt}). Paths are relative to this",
        "folder; run everything from here.",
        "",
        "On the device itself:",
        "",
        "```console",
        "$ ./run.sh",
        "```",
        "",
        "In NVIDIA's container:",
        "",
        "```console",
        f"$ docker run -it --rm {device} --net=host -v $PWD:/{folder_name} -w /{folder_name} \\",
        f"    {release.container} ./run.sh",
        "```",
    ]
    if release.number >= (6, 1, 1):
        lines += [
            "",
            "The image has no software codecs; for a file sink without a hardware encoder, run",
            "/opt/nvidia/deepstream/deepstream/user_additional_install.sh in it first.",
        ]
    if has_gesture:
        lines += [
            "",
            "deepstream-app classifies the tight box, because no key widens it. For the region of",
            f"model.json and for gesture events ({release.bindings}), beside a copy of deploy/:",
            "",
            "```console",
            "$ python3 -m deploy.deepstream.margin_app --folder .",
            "```",
        ]
    lines += ["", "What was chosen:", ""] + [f"- {note}" for note in notes]
    return "\n".join(lines) + "\n"
