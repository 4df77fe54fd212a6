"""The manifest of a bundle: the SHA-256 of each of its files.

    python -m deploy.manifest

in an unpacked bundle says whether it arrived whole (a copy over a bad cable, a full disk).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Optional, Sequence

from deploy.core.errors import DeployError, UserError
from deploy.core.model_json import hash_file

ROOT = Path(__file__).resolve().parents[1]
FILE_NAME = "manifest.json"
SCHEMA_VERSION = 1


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Check the bundle around this module; return the exit status."""
    argparse.ArgumentParser("python -m deploy.manifest", description=__doc__).parse_args(argv)
    try:
        count = check_manifest(ROOT)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stderr.write(f"manifest: {count} files are as they were packed -> {ROOT}\n")
    return 0


def check_manifest(root: Path) -> int:
    """Compare every file of root/manifest.json with its SHA-256; return how many there are.

    Files that the manifest does not name do not matter. Raises DeployError for the first one that
    is missing or different, and for a folder that is no bundle.
    """
    path = root / FILE_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise DeployError(f"{path} is not there; expected an unpacked bundle") from None
    except ValueError as error:
        raise DeployError(f"{path}: is not JSON: {error}; unpack the bundle again") from None
    for name, expected in sorted(document["files"].items()):
        seen = hash_file(root / name)
        if seen != expected:
            raise DeployError(
                f"{root / name}: sha256 is {seen[:12]}..., expected {expected[:12]}...; "
                "unpack the bundle again"
            )
    return len(document["files"])


if __name__ == "__main__":
    sys.exit(main())
