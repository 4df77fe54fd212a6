"""Run a module of an unpacked deploy/ as on a device: from elsewhere, with few packages."""

import subprocess
import sys

# Replaces Python's finder by one that does not see other packages in site-packages.
PROGRAM = """
import runpy, sys
from importlib.machinery import PathFinder

allowed = set(sys.argv[1].split(","))

class Filter:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target)
        places = [] if spec is None else [spec.origin or ""] + list(
            spec.submodule_search_locations or []
        )
        is_package = any("site-packages" in place for place in places)
        return None if path is None and is_package and name not in allowed else spec

sys.meta_path = [Filter if finder is PathFinder else finder for finder in sys.meta_path]
sys.path[0] = sys.argv[2]
sys.argv = sys.argv[3:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def run_isolated(root, module, *arguments, packages, cwd):
    """Run `python -m module arguments` with `root` on the path and only these packages visible.

    Returns the finished process, its output as text.
    """
    command = [sys.executable, "-c", PROGRAM, ",".join(packages), str(root), module]
    return subprocess.run(  # noqa: UP022 (3.6 has no capture_output)
        command + [str(argument) for argument in arguments],
        cwd=str(cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,  # noqa: UP021 (3.6 has no text)
        timeout=120,
    )
