"""Why a task of TAO failed, told from its last lines, and how to mend it.

The launcher swallows its container's exit status and prints tracebacks where a sentence would do;
what it and TAO print for each fault is matched here, the most telling line first.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from stages.tao.commands import KEY_VARIABLE


class Fault(NamedTuple):
    """A line that gives a fault away, what it means, and what to do."""

    pattern: re.Pattern[str]
    meaning: str
    remedy: str


def _fault(pattern: str, meaning: str, remedy: str) -> Fault:
    return Fault(re.compile(pattern, re.IGNORECASE), meaning, remedy)


FAULTS = (
    _fault(
        r"no space left on device|disk quota exceeded",
        "the disk is full",
        "make room there (docker system df says what images take) and run again, it goes on",
    ),
    _fault(
        r"invalid decryption|key used to load the model is incorrect|invalid key|decryption fail",
        f"{KEY_VARIABLE} is not the key with which the model was encrypted",
        f"export {KEY_VARIABLE} with that one (PeopleNet's is tlt_encode) and run again",
    ),
    _fault(
        r"did you run docker login|unauthorized|pull access denied|authentication required|"
        r"no basic auth credentials|access to the resource is denied|403 forbidden",
        "the registry refuses to hand out the image",
        "docker login nvcr.io with the user $oauthtoken and an API key of ngc.nvidia.com",
    ),
    _fault(
        r"docker pull failed|manifest (unknown|for .* not found)|failed to resolve reference|"
        r"toomanyrequests|tls handshake timeout|no such host",
        "the image could not be pulled",
        "check the network and the registry, or pull it by hand, and run again",
    ),
    _fault(
        r"could not select device driver|nvidia-container-cli|unknown runtime.* nvidia|"
        r"no cuda-capable device|driver version is insufficient",
        "docker cannot give containers a GPU",
        "install nvidia-container-toolkit, sudo nvidia-ctk runtime configure --runtime=docker, "
        "sudo systemctl restart docker",
    ),
    _fault(
        r"cannot connect to the docker daemon|error while fetching server api version",
        "the docker daemon does not answer",
        "start it: sudo systemctl start docker (and add yourself to the group docker)",
    ),
    _fault(
        r"input device is not a tty",
        "the launcher wants a terminal that it did not get",
        "set backend.tao.via to docker",
    ),
    _fault(
        r"resourceexhausted|ran out of gpu memory|cuda_error_out_of_memory|oom when allocating",
        "the GPU's memory is too small",
        "lower train.batch_size (retrain.qat_fit.batch_size), or choose a smaller model",
    ),
    _fault(
        r"couldn't parse|parseerror|has no field named|text_format",
        "TAO does not read the spec",
        "check that backend.tao.generation is the one of the image",
    ),
    _fault(
        # TAO also notes, harmlessly, that its log file already exists.
        r"output file .* already exists|fileexistserror",
        "a file is in the way",
        "remove it and run again",
    ),
    _fault(
        r"permission denied",
        "a file or the docker socket may not be used",
        "add yourself to the group docker (sudo usermod -aG docker $USER), or look whose .work is",
    ),
)

# What stands behind the telling line, whatever happened.
HOLLOW = re.compile(r"^Execution status|elemetry|\[INFO\]|^\[WARNING\]", re.MULTILINE)


def explain(lines: Sequence[str], *, message: str = "") -> str:
    """Return one line: why, by the task's own words, and the remedy.

    lines: the last ones that were printed. message: of the last status record.
    """
    texts = [message, *reversed(lines)]
    for fault in FAULTS:
        found = next((text for text in texts if fault.pattern.search(text)), None)
        if found is not None:
            return f"{fault.meaning} ({_short(found)}); {fault.remedy}"
    telling = (text for text in reversed(lines) if text.strip() and not HOLLOW.search(text))
    return f"TAO says: {_short(message or next(telling, 'no message'))}"


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 200 else f"{plain[:197]}..."
