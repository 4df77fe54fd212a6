"""Make your own gesture data: cut the hands out of videos and sort them in the browser.

    python -m stages.gesturenet.label --source clip.mp4 --source pictures/ --out crops/

The crops are what the runtime would show its classifier, which suggests a class for each. Then a
page on 127.0.0.1 opens the way to sort them; Ctrl-C ends it, and the same command goes on. Without
--source the page of an earlier run is served, or with --export its class folders are written:
DIR/<class>/<source>_<frame>-<n>.jpg.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deploy.core.errors import UserError
from deploy.options import add_engine_arguments, positive
from deploy.source import quiet_opencv
from stages._files import atomic
from stages.gesturenet.errors import GestureError
from stages.gesturenet.labelling import class_folders, journal, labels
from stages.gesturenet.labelling.cropping import (
    FOLDER_STEP,
    VIDEO_STEP,
    check_sources,
    cut_sources,
    open_models,
)
from stages.gesturenet.labelling.page import render_page
from stages.gesturenet.labelling.server import Server, Sorting

PAGE = "index.html"
PORT = 8077


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return 0, 1 for what a person can mend, 2 for usage, 130 for Ctrl-C."""
    args = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    quiet_opencv()
    try:
        run(args)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("label: interrupted; the same command goes on\n")
        return 130
    return 0


def run(args: argparse.Namespace) -> None:
    """Cut, then export or serve or write the page."""
    if args.source:
        _cut(args)
    elif not journal.is_ours(args.out):
        raise GestureError(
            f"no source given, and {args.out} holds no crops; give a video or a folder of "
            f"images: {_command(args.out)} --source clip.mp4"
        )
    if args.export is not None:
        _export(args)
    elif args.no_serve:
        _write_page(args.out)
    else:
        _serve(args)


def _cut(args: argparse.Namespace) -> None:
    started = time.perf_counter()
    check_sources(args.source)
    with (
        open_models(args) as models,
        journal.open_journal(args.out, models.settings()) as opened,
    ):
        num_frames = cut_sources(
            args.source, models, opened, args.out, every=args.every, limit=args.limit
        )
        content = opened.content
        threshold = content.settings.values["confidence"]
    if not content.crops:
        raise GestureError(
            f"no hand found in {len(content.frames)} frames at confidence {threshold}; look at "
            "the source, or take a lower --confidence"
        )
    seconds = time.perf_counter() - started
    sys.stderr.write(
        f"label: {num_frames} new frames, {len(content.crops)} crops, {seconds:.1f} s -> "
        f"{args.out / journal.PICTURES}\n"
    )


def _export(args: argparse.Namespace) -> None:
    started = time.perf_counter()
    content = journal.read_journal(args.out)
    classes = content.settings.classes
    said = labels.read_labels(args.out, classes=classes)
    unsorted = labels.count_labels(content.crops, said, classes=classes).unsorted
    if args.accept_suggestions:
        said = labels.accept_suggestions(content.crops, said)
    folder = _class_folder(args)
    counts = class_folders.write_class_folders(
        args.out, folder, content.crops, said, classes=classes
    )
    if unsorted and not args.accept_suggestions:
        logging.getLogger(__name__).warning(
            "%d crops are not sorted and left out; sort them: %s, or add --accept-suggestions",
            unsorted,
            _command(args.out),
        )
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    seconds = time.perf_counter() - started
    sys.stderr.write(f"label: {listed}, {seconds:.1f} s -> {folder}\n")


def _write_page(out: Path) -> None:
    content = journal.read_journal(out)
    classes = content.settings.classes
    said = labels.read_labels(out, classes=classes)
    text = render_page(content.crops, said, classes=classes, command=_command(out))
    with atomic(out / PAGE, is_file=True) as aside:
        aside.write_text(text, encoding="utf-8")
    sys.stderr.write(f"label: {len(content.crops)} crops -> {out / PAGE}\n")


def _serve(args: argparse.Namespace) -> None:
    """Serve until Ctrl-C; everything is saved at every moment."""
    content = journal.read_journal(args.out)
    command = _command(args.out)
    sorting = Sorting(args.out, content, folder=_class_folder(args), command=command)
    sorting.tally()  # a labels.json that cannot be read ends here
    with Server(sorting, port=args.port) as server:
        sys.stderr.write(f"label: sort them on {server.address} (Ctrl-C ends)\n")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            tally = sorting.tally()
            done = len(content.crops) - tally.unsorted
            sys.stderr.write(
                f"\nlabel: {done} of {len(content.crops)} crops sorted -> "
                f"{args.out / labels.FILE_NAME}; go on: {command}; class folders: {command} "
                "--export\n"
            )


def _class_folder(args: argparse.Namespace) -> Path:
    return Path(args.export) if args.export else args.out / class_folders.FOLDER


def _command(out: Path) -> str:
    return f"python -m {journal.TOOL} --out {out}"


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port, expected 0 to 65535")
    return value


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        f"python -m {journal.TOOL}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--source", action="append", default=[], metavar="URI", help="video or folder; repeatable")
    add("--out", type=Path, required=True, metavar="DIR", help="where crops and labels.json lie")
    add_engine_arguments(parser)
    every = f"take each N-th frame (default: {VIDEO_STEP} for videos, {FOLDER_STEP} for folders)"
    add("--every", type=positive(int), metavar="N", help=every)
    add("--confidence", type=positive(float), metavar="X", help="of hands (default: the model's)")
    add("--limit", type=positive(int), metavar="N", help="end with the frame of the N-th crop")
    add("--port", type=_port, default=PORT, help=f"of the page; 0: any (default: {PORT})")
    add(
        "--no-serve", action="store_true", help=f"only write the crops and a {PAGE} without server"
    )
    target = f"write class folders and end (default: OUT/{class_folders.FOLDER})"
    add("--export", nargs="?", const="", metavar="DIR", help=target)
    add("--accept-suggestions", action="store_true", help="export unsorted crops as suggested")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
