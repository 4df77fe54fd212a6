"""Can the TAO backend run here? Docker, its daemon, GPUs, driver, disk, login, launcher and image.

Run: python -m stages.tao.check (a second or two; exit status 1 when something is missing). It
takes `backend` of resolved.yaml; `--generation` and `--via` ask for another choice. Every TAO
stage looks first, so that nothing long begins that cannot end.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from deploy.core.errors import UserError
from stages.tao.config import GENERATIONS, WAYS, TaoConfig
from stages.tao.errors import TaoError
from stages.tao.generations import find_generation
from stages.tao.preflight import Place, find_faults

RESOLVED = Path("resolved.yaml")
WORK = Path(".work")


def read_config(path: Path) -> TaoConfig:
    """Read `backend.tao` of resolved.yaml; the defaults where there is none."""
    try:
        backend = (yaml.safe_load(path.read_text()) or {}).get("backend") or {}
        return TaoConfig(**(backend.get("tao") or {}))
    except OSError:
        return TaoConfig()
    except (TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise TaoError(f"{path}: {error}; run: python -m stages.compose") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per check; return 1 when one failed, 2 for usage."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tao.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--generation", choices=GENERATIONS)
    parser.add_argument("--via", choices=WAYS)
    args = parser.parse_args(argv)
    try:
        config = read_config(RESOLVED)
        changes = {name: value for name, value in vars(args).items() if value is not None}
        if changes.get("via") == "launcher":
            changes["image"] = None
        config = dataclasses.replace(config, **changes)
    except (UserError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    findings = find_faults(Place(config, find_generation(config.generation), WORK))
    for finding in findings:
        mark = "ok     " if finding.is_good else "MISSING"
        print(f"{mark} {finding.name}: {finding.seen}")
        if not finding.is_good:
            print(f"        mend: {finding.remedy}")
            print(f"        or, where that is wrong: backend.tao.unchecked=[{finding.name}]")
    return 0 if all(finding.is_good for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
