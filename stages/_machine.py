"""Keeps .work/machine.json, the description of this machine on which the stage `engines` depends.

Run: python -m stages._machine. The file is rewritten only when the description changes (another
processor, another version of a runtime), so that DVC measures the engines again exactly then.
"""

import json
import sys
from pathlib import Path

from deploy.machine import describe_machine, fingerprint
from stages._files import write_json

MACHINE = Path(".work/machine.json")


def write_machine(path: Path = MACHINE) -> bool:
    """Write the description and its fingerprint if they changed; return whether they did."""
    machine = describe_machine()
    content = {"fingerprint": fingerprint(machine), "machine": machine}
    if _read(path) == content:
        return False
    write_json(path, content)
    return True


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    write_machine()
    sys.stderr.write(f"machine -> {MACHINE}\n")
