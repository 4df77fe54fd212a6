"""The page on which a person sorts crops: one HTML text with its style, script and data inside."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.gesturenet.labelling.journal import PICTURES, Crop
from stages.gesturenet.labelling.naming import DISCARD

HERE = Path(__file__).parent


def render_page(
    crops: Sequence[Crop],
    labels: Mapping[str, str],
    *,
    classes: Sequence[str],
    command: str,
    token: str | None = None,
    nonce: str = "",
) -> str:
    """Return the page. It shows pictures of the folder crops/ beside it, each when it is seen.

    command: how to start the tool again, for messages. token: what the server expects with each
    change; without one the page stands alone and offers labels.json as a download. nonce: of the
    server's Content-Security-Policy.
    """
    data = {
        "classes": list(classes),
        "command": command,
        "crops": [(crop.name, crop.suggestion, crop.suggestion_confidence) for crop in crops],
        "discard": DISCARD,
        "labels": {crop.name: labels[crop.name] for crop in crops if crop.name in labels},
        "pictures": PICTURES,
        "token": token,
    }
    parts = {name: (HERE / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    parts.update(data=_script_json(data), nonce=nonce)
    html = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], html)


def _script_json(value: Any) -> str:
    """JSON that can stand in a script element: no text in it can end the element."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
