"""TensorRT's own messages: logged as they come, and kept so that an error can end with them."""

import logging
from typing import Any, List

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
    """The last error messages of a logger, oldest first."""

    def __init__(self) -> None:
        self._texts: List[str] = []

    def add(self, text: str) -> None:
        """Keep a message, and forget the oldest of more than KEPT."""
        self._texts = (self._texts + [" ".join(text.split())])[-KEPT:]

    def take(self) -> str:
        """Return and forget what was kept, as one line."""
        texts, self._texts = self._texts, []
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
            if level >= logging.ERROR:
                self.errors.add(message)
                LOGGER.debug("%s", message)
            else:
                LOGGER.log(level, "TensorRT: %s", message)

    return Messages()
