"""Check that constraints.txt pins everything for each Python that the project supports.

Run: python tests/check_constraints.py (10 s; part of `make check`). The resolver is uv; it reads
the package index and installs nothing.
"""

import re
import subprocess
import sys
from collections.abc import Iterable

PYTHONS = ("3.10", "3.11", "3.12")
COMMAND = ("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--extra", "dev")
SOURCES = ("pyproject.toml", "requirements/pip.in", "--constraint", "constraints.txt")


def pins(lines: Iterable[str]) -> set[str]:
    """Return the `name==version` parts of requirement lines, without markers."""
    return {
        match.group(0) for line in lines if (match := re.match(r"[A-Za-z0-9._-]+==[^\s;]+", line))
    }


def main() -> int:
    """Resolve for each Python; return 1 and name what is unpinned or cannot be resolved."""
    with open("constraints.txt", encoding="utf-8") as file:
        known = pins(file)
    for python in PYTHONS:
        command = [*COMMAND, *SOURCES, "--python-version", python]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        unpinned = sorted(pins(done.stdout.splitlines()) - known)
        if done.returncode or unpinned:
            reason = (
                done.stderr.strip() or f"not pinned: {', '.join(unpinned)}; renew with: make lock"
            )
            sys.stderr.write(f"error: constraints.txt for Python {python}: {reason}\n")
            return 1
    sys.stderr.write(f"constraints.txt: resolves for Python {', '.join(PYTHONS)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
