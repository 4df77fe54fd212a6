"""Log lines for a person or, with --log-format json, an object a line for a program."""

import json
import logging
import sys
import time

FORMATS = ("text", "json")


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time (Unix seconds), level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        document = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)


def configure_logging(form: str) -> None:
    """Send the log to standard error in one of FORMATS, and warnings of libraries with it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def say(text: str, *, form: str, is_error: bool = False) -> None:
    """Write a program's last line or its error, in the form of the log."""
    if form == "json":
        document = {
            "time": round(time.time(), 6),
            "level": "error" if is_error else "info",
            "logger": "deploy.run",
            "message": text,
        }
        sys.stderr.write(json.dumps(document, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"error: {text}\n" if is_error else f"{text}\n")
