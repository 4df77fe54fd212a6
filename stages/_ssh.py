"""Commands and files on a device, through the OpenSSH client of this machine.

Never asks: the login is by key (BatchMode), and the host's key must be known already
(StrictHostKeyChecking=yes). A connection that says nothing for 15 seconds counts as cut.
"""

import hashlib
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.core.errors import UserError
from stages._device_config import BoardConfig

OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "LogLevel=ERROR",
)
# What ssh itself exits with; a command there may too, but none of ours does.
CONNECTION_FAILED = 255
COMMAND_TIMEOUT_S = 120.0
SLOWEST_BYTES_PER_S = 200_000
HOST_KEY_WORDS = ("host key", "Host key")
LOGIN_WORDS = ("Permission denied",)


class BoardError(UserError):
    """A device cannot be measured: this target fails, others go on."""


class ConnectionCutError(BoardError):
    """The device is off or the connection was cut: it may come back."""


class Shell:
    """A device's shell; each command is a connection of its own."""

    def __init__(self, target: str, board: BoardConfig) -> None:
        self.target = target
        self._host = board.host or target
        self._command = ["ssh", *_options(board), "--", self._host]

    def run(
        self, script: str, *, content: bytes | None = None, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> bytes:
        """Run a POSIX shell script; return what it printed.

        Raises BoardError for a script that fails, a refused login and an unknown host key;
        ConnectionCutError where there was no answer.
        """
        words = [*self._command, f"sh -c {shlex.quote(script)}"]
        try:
            done = subprocess.run(
                words, input=content or b"", capture_output=True, timeout=timeout_s, check=False
            )
        except FileNotFoundError:
            raise BoardError("ssh is not installed; install Debian's openssh-client") from None
        except subprocess.TimeoutExpired:
            raise ConnectionCutError(
                f"{self.target}: no answer from {self._host} in {timeout_s:.0f} s"
            ) from None
        if done.returncode == 0:
            return done.stdout
        said = " ".join(done.stderr.decode(errors="replace").split())[-300:]
        if done.returncode == CONNECTION_FAILED:
            raise self._explain(said)
        raise BoardError(f"{self.target}: `{script[:60]}` exited {done.returncode}: {said}")

    def push(self, source: Path, place: str) -> None:
        """Copy a file; what an earlier, cut copy left there is continued. Raises as run does."""
        partial = shlex.quote(place + ".part")
        size = source.stat().st_size
        seen = int(self.run(f"test -f {partial} && wc -c < {partial} || echo 0"))
        if seen > size:
            self.run(f"rm -f {partial}")
            seen = 0
        content = source.read_bytes()
        timeout_s = COMMAND_TIMEOUT_S + (size - seen) / SLOWEST_BYTES_PER_S
        self.run(f"cat >> {partial}", content=content[seen:], timeout_s=timeout_s)
        expected = hashlib.sha256(content).hexdigest()
        found = self.run(f"sha256sum < {partial}").split()[0].decode()
        if found != expected:
            self.run(f"rm -f {partial}")
            raise ConnectionCutError(f"{self.target}: {source.name} arrived damaged")
        self.run(f"mv {partial} {shlex.quote(place)}")

    def _explain(self, said: str) -> BoardError:
        if any(word in said for word in HOST_KEY_WORDS):
            return BoardError(
                f"{self.target}: the host key of {self._host} is not known or has changed; check "
                f"it and connect once by hand: ssh {self._host} ({said})"
            )
        if any(word in said for word in LOGIN_WORDS):
            return BoardError(
                f"{self.target}: {self._host} refuses the login by key; run: ssh-copy-id "
                f"{self._host} ({said})"
            )
        return ConnectionCutError(f"{self.target}: no connection to {self._host}: {said}")


def _options(board: BoardConfig) -> Sequence[str]:
    words = [word for option in OPTIONS for word in ("-o", option)]
    if board.known_hosts_file is not None:
        words += ["-o", f"UserKnownHostsFile={board.known_hosts_file}"]
    if board.identity_file is not None:
        words += ["-o", "IdentitiesOnly=yes", "-i", board.identity_file]
    return [*words, "-p", str(board.port)] if board.port is not None else words
