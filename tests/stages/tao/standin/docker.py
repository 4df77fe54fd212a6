"""A stand-in `docker` program: records its calls, and plays NVIDIA's container for run and exec.

Run as a script by the `docker` on PATH (see conftest.py); STANDIN_STATE is the state folder.
"""

import os
import subprocess
import sys
from pathlib import Path

import state

FOLDER = Path(os.environ["STANDIN_STATE"])
WITH_VALUE = {"--gpus", "--user", "--shm-size", "--ulimit", "--env", "--volume", "--workdir"}


def main(argv: list[str]) -> int:
    state.note(FOLDER, "commands.jsonl", argv)
    if argv[:1] == ["exec"]:
        if "-it" in argv and not sys.stdin.isatty():
            print("the input device is not a TTY")
            return 1
        name, *command = argv[2:]
        known = state.read(FOLDER, "containers.json", {})
        full = next(full for full in known if full.startswith(name))
        return play(known[full]["Config"]["HostConfig"]["Binds"], command)
    if argv[:1] == ["run"]:
        return run(argv[1:])
    print(f"docker: {argv[0]} is not played here", file=sys.stderr)
    return 1


def run(argv: list[str]) -> int:
    binds = [argv[place + 1] for place, word in enumerate(argv) if word == "--volume"]
    rest = list(argv)
    while rest[0].startswith("--"):
        rest = rest[2:] if rest[0] in WITH_VALUE else rest[1:]
    if state.take_fault(FOLDER, "pull"):
        print(f"Unable to find image '{rest[0]}' locally", file=sys.stderr)
        print(
            f"docker: Error response from daemon: pull access denied for {rest[0]}",
            file=sys.stderr,
        )
        return 125
    return play(binds, rest[1:])


def play(binds: list[str], command: list[str]) -> int:
    """Run the container's program with its paths as this machine has them."""
    source, target = binds[0].split(":")[:2]
    program = [sys.executable, str(Path(__file__).with_name("container.py")), source, target]
    return subprocess.run([*program, *command], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
