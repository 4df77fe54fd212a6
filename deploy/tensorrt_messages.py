"""TensorRT's own messages: logged as they come, and kept so that an error can end with them."""

import logging
from typing import Any, Dict, List

from deploy.core.errors import DeployError

LOGGER = logging.getLogger("deploy.tensorrt")
KEPT = 4
# TensorRT's severities, by name: it numbers them.
LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,
    "VERBOSE": logging.DEBUG,
}


class Errors:
    """The last messages of a logger: its errors or, where it had none, its warnings."""

    def __init__(self) -> None:
        self._texts: Dict[bool, List[str]] = {True: [], False: []}

    def add(self, text: str, *, is_error: bool) -> None:
        """Keep a message, and forget the oldest of more than KEPT of its kind."""
        kept = self._texts[is_error]
        kept.append(" ".join(text.split()))
        del kept[:-KEPT]

    def take(self) -> str:
        """Return and forget what was kept, as one line, oldest first."""
        texts = self._texts[True] or self._texts[False]
        self._texts = {True: [], False: []}
        return " | ".join(texts) or "it gave no message"


def make_logger(trt: Any) -> Any:
    """Return a logger for a TensorRT module, with its `errors`.

    TensorRT keeps one logger for a process: make one and use it for all.
    """

    class Messages(trt.ILogger):
        """Passes TensorRT's messages to logging."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors = Errors()

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT."""
            level = LEVELS.get(str(severity).rsplit(".", 1)[-1], logging.WARNING)
            if level >= logging.WARNING:
                self.errors.add(message, is_error=level >= logging.ERROR)
            # Errors end in the message of a DeployError, so they are not told twice.
            shown = logging.DEBUG if level >= logging.ERROR else level
            LOGGER.log(shown, "TensorRT: %s", message)

    return Messages()


def create(kind: Any, *arguments: Any) -> Any:
    """Return an object of TensorRT's; the last argument is the logger.

    Raises DeployError where TensorRT makes none, which its Python shows as a TypeError (no driver,
    no memory), with TensorRT's own words.
    """
    try:
        return check(kind(*arguments), kind.__name__, arguments[-1])
    except TypeError:
        raise DeployError(
            f"TensorRT: {kind.__name__} failed: {arguments[-1].errors.take()}"
        ) from None


def check(value: Any, what: str, logger: Any) -> Any:
    """Return the value, or raise DeployError when TensorRT gave None or False."""
    if value is None or value is False:
        raise DeployError(f"TensorRT: {what} failed: {logger.errors.take()}")
    return value
