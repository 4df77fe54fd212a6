"""Write, or check, what DeepStream and Triton need to run the two models.

    python -m deploy.render --target deepstream --version 6.3 --model models/export \\
        --gesture models/gesture --source csi://0 --sink window --out deepstream
    python -m deploy.render --check deepstream --version 6.3
    python -m deploy.render --target triton --model models/export --gesture models/gesture \\
        --out triton

Every value comes from the models' model.json.
"""

import argparse
import sys
from pathlib import Path
from typing import Optional, Sequence

from deploy.core.errors import DeployError, UserError
from deploy.deepstream.checker import check_folder
from deploy.deepstream.endpoints import refuse_blanks
from deploy.deepstream.folder import Request, deepstream_files, triton_files, write_folder
from deploy.deepstream.triton import PLATFORMS
from deploy.deepstream.versions import RELEASES, find_release

TARGETS = ("deepstream", "triton")
PRECISIONS = ("auto", "int8", "qdq", "fp16", "fp32")
DEFAULT_BATCH = 8


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program; return 0, 1 for what a person can mend, or 2 for usage."""
    parser = _parser()
    args = parser.parse_args(argv)
    if (args.check is None) == (args.target is None):
        parser.error("give one of --target and --check")
    try:
        return check(args) if args.check is not None else render(args)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def check(args: argparse.Namespace) -> int:
    """Check a folder; print what is wrong, one line each; return 1 if anything is."""
    release = find_release(_given(args.version, "--version"))
    num_files, problems = check_folder(Path(args.check), release)
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    sys.stderr.write(
        f"check: {num_files} files, {len(problems)} problems for DeepStream {release.version}\n"
    )
    return 1 if problems else 0


def render(args: argparse.Namespace) -> int:
    """Write the folder of a target; return 0."""
    out = Path(refuse_blanks("--out", _given(args.out, "--out")))
    model = Path(_given(args.model, "--model"))
    gesture = None if args.gesture is None else Path(args.gesture)
    if args.target == "triton":
        release = find_release(args.version or RELEASES[-1].version)
        folders = [model] + ([gesture] if gesture is not None else [])
        files = triton_files(folders, release, form=args.form, max_batch_size=args.max_batch)
    else:
        request = Request(
            release=find_release(_given(args.version, "--version")),
            model=model,
            gesture=gesture,
            source=_given(args.source, "--source"),
            sinks=args.sink or ["fake"],
            precision=args.precision,
            engine=args.engine,
            tracker=args.tracker,
            form=args.form,
        )
        files = deepstream_files(request)
    write_folder(out, files)
    sys.stderr.write(f"render: {len(files)} files -> {out}\n")
    return 0


def _given(value: Optional[str], option: str) -> str:
    if value is None:
        raise DeployError(f"{option} is missing; see python -m deploy.render --help")
    return value


def _batch(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m deploy.render",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--check", metavar="FOLDER", help="check the configurations in it instead")
    versions = ", ".join(release.version for release in RELEASES)
    parser.add_argument("--version", metavar="V", help=f"of DeepStream: {versions}")
    parser.add_argument("--model", metavar="DIR", help="folder of the detector")
    parser.add_argument("--gesture", metavar="DIR", help="folder of the classifier")
    parser.add_argument("--source", metavar="URI", help="csi://0, /dev/video0, rtsp://..., file")
    parser.add_argument(
        "--sink",
        action="append",
        metavar="URI",
        help="fake, window, overlay (to 6.0), drm (from 6.1), out.mp4, rtsp://:8554; repeatable",
    )
    parser.add_argument("--out", metavar="DIR", help="folder to write; new or empty")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="of the detector")
    parser.add_argument("--engine", metavar="FILE", help="prebuilt engine of the detector")
    parser.add_argument("--tracker", default="auto", help="iou, nvsort, nvdcf; to 5.1 klt")
    parser.add_argument("--form", choices=sorted(PLATFORMS), default="plan", help="in Triton")
    parser.add_argument("--max-batch", type=_batch, default=DEFAULT_BATCH, help="of Triton")
    return parser


if __name__ == "__main__":
    sys.exit(main())
