"""Files of torch.save that hold tensors and plain values alone."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from stages.detectnet.errors import DetectNetError


def read_torch_file(path: Path, *, kind: str, keys: Iterable[str], remedy: str) -> dict[str, Any]:
    """Read a dictionary with at least the keys, tensors on the CPU; runs no code of the file.

    kind, remedy: what the file should be and what to do if it is not, for the message. Raises
    DetectNetError for a damaged or foreign file, FileNotFoundError for none.
    """
    try:
        with warnings.catch_warnings():
            # About other formats that it then refuses; the error says enough.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # the unpickler meets damage with errors of any kind
        raise DetectNetError(
            f"{path} is not a {kind} or is damaged ({type(error).__name__}); {remedy}"
        ) from error
    if not isinstance(content, dict):
        raise DetectNetError(f"{path} holds a {type(content).__name__}, not a {kind}; {remedy}")
    missing = sorted(set(keys) - content.keys())
    if missing:
        raise DetectNetError(f"{path} is no {kind}: it lacks {', '.join(missing)}; {remedy}")
    return content
