"""Download one large file over HTTP, from the first of several addresses that works.

A download that was cut, in this run or an earlier one, goes on where it stopped (Range, RFC 9110
section 14) as long as the server says that the file is still the same (If-Range: strong ETag, else
Last-Modified; else the total length). Bytes and their origin wait beside the target, in
`<target>.<hash of the address>.part` and `.part.json`.
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import requests
from tqdm import tqdm

from stages.datasets.errors import DatasetError

LOGGER = logging.getLogger(__name__)
CHUNK_BYTES = 1 << 18
TIMEOUT_S = (20.0, 60.0)  # to connect, and between two reads
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class RetryPolicy(NamedTuple):
    """How often a broken connection is tried again without a new byte, and the first pause."""

    attempts: int = 4
    first_pause_s: float = 1.0


PATIENT = RetryPolicy()
OTHER_WAY = "set dataset.path to the zip or its folder"
BROKEN_ERRORS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


class _GiveUpError(Exception):
    """This address cannot deliver the file; the message says why."""


class _BrokenError(Exception):
    """The connection broke; another attempt may go on from here."""


class _Offer(NamedTuple):
    """What a server says of the file: validators ("" = none) and total bytes (-1 = unknown)."""

    etag: str
    last_modified: str
    total_bytes: int


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: str | None = None,
    expected_start: bytes = b"",
    retry: RetryPolicy = PATIENT,
    other_way: str = OTHER_WAY,
) -> str:
    """Download to `target` and return the SHA-256 of the file.

    urls are tried in order. sha256: checked when given. expected_start: the first bytes of the
    file, so that an error page served with status 200 is refused at once. A `target` that is
    already there is taken as it is if its checksum agrees (or none is given). other_way: what to
    do with a file from elsewhere. Raises DatasetError with every address and its reason when none
    delivers.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file():
        digest = _hash_existing(target).hexdigest()
        if sha256 in (None, digest):
            return digest
        target.unlink()
    reasons = []
    for url in urls:
        part = _part_path(target, url)
        try:
            digest = _fetch_from(url, part, sha256=sha256, start=expected_start, retry=retry)
        except _GiveUpError as error:
            LOGGER.warning("%s: %s", url, error)
            if part.is_file() and not part.stat().st_size:
                _discard(part)
            reasons.append(f"{url} ({error})")
            continue
        os.replace(part, target)
        _origin_path(part).unlink(missing_ok=True)
        return digest
    raise DatasetError(
        f"{target.name} could not be downloaded from any of {len(urls)} addresses: "
        f"{'; '.join(reasons)}; get it another way and {other_way}"
    )


def _fetch_from(
    url: str, part: Path, *, sha256: str | None, start: bytes, retry: RetryPolicy
) -> str:
    """Bring `part` to completion from one address; return its SHA-256."""
    failures = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            digest = _one_attempt(url, part, start)
            break
        except (_BrokenError, *BROKEN_ERRORS) as error:
            gained = part.is_file() and part.stat().st_size > before
            failures = 1 if gained else failures + 1
            if failures >= retry.attempts:
                raise _GiveUpError(
                    f"{_reason(error)}, {failures} times without progress"
                ) from error
            LOGGER.info("%s: %s; trying again", url, _reason(error))
            time.sleep(retry.first_pause_s * 2 ** (failures - 1))
        except requests.RequestException as error:
            raise _GiveUpError(_reason(error)) from error
        except OSError as error:
            raise DatasetError(
                f"{part} cannot be written ({error.strerror}); make room there and run again, the "
                "download goes on where it stopped"
            ) from error
    if sha256 not in (None, digest):
        _discard(part)
        raise _GiveUpError(f"its SHA-256 is {digest}, expected {sha256}")
    return digest


def _one_attempt(url: str, part: Path, start: bytes) -> str:
    """Request what is missing and append it. Raises _BrokenError when bytes are still missing."""
    have = part.stat().st_size if part.is_file() else 0
    known = _read_origin(part)
    if not have or known is None:
        have, known = 0, None
    headers = {"Accept-Encoding": "identity", **_range_headers(have, known)}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable and have:
            return _finish_or_restart(part, known)
        if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
            _raise_for_status(response)
        offer, offset = _read_offer(response)
        if offset and (known is None or offset != have or offer.total_bytes != known.total_bytes):
            _discard(part)
            raise _BrokenError("the server's file is another one than before; starting anew")
        if not offset:
            part.write_bytes(b"")  # old bytes must never stand beside a new origin
        _write_origin(part, offer)
        digest = _append(response, part, offset=offset, total_bytes=offer.total_bytes, start=start)
    size = part.stat().st_size
    if offer.total_bytes >= 0 and size != offer.total_bytes:
        raise _BrokenError(f"connection closed after {size} of {offer.total_bytes} bytes")
    return digest


def _append(
    response: requests.Response, part: Path, *, offset: int, total_bytes: int, start: bytes
) -> str:
    """Write the body behind `offset` bytes of `part`; return the SHA-256 of the whole."""
    digest = _hash_existing(part) if offset else hashlib.sha256()
    if offset:
        LOGGER.info("resuming %s at %d bytes", response.url, offset)
    total = total_bytes if total_bytes >= 0 else None
    bar = tqdm(
        total=total, initial=offset, unit="B", unit_scale=True, desc="download", disable=None
    )
    with part.open("ab" if offset else "wb") as stream, bar:
        for chunk in response.iter_content(CHUNK_BYTES):
            if not stream.tell() and not chunk.startswith(start[: len(chunk)]):
                kind = response.headers.get("Content-Type", "of no type")
                raise _GiveUpError(f"answered with something else than the file ({kind})")
            stream.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _range_headers(have: int, known: _Offer | None) -> dict[str, str]:
    if not have or known is None:
        return {}
    # A weak ETag must not stand in If-Range (RFC 9110, 13.1.5).
    strong_etag = "" if known.etag.startswith("W/") else known.etag
    validator = strong_etag or known.last_modified
    return {"Range": f"bytes={have}-", **({"If-Range": validator} if validator else {})}


def _read_offer(response: requests.Response) -> tuple[_Offer, int]:
    """Return what is offered and the offset of the body's first byte."""
    headers = response.headers
    offset, total = 0, int(headers.get("Content-Length", -1))
    if response.status_code == requests.codes.partial_content:
        match = CONTENT_RANGE.match(headers.get("Content-Range", ""))
        if not match:
            raise _GiveUpError(f"answered 206 with Content-Range {headers.get('Content-Range')!r}")
        offset = int(match[1])
        total = -1 if match[2] == "*" else int(match[2])
    return _Offer(headers.get("ETag", ""), headers.get("Last-Modified", ""), total), offset


def _finish_or_restart(part: Path, known: _Offer | None) -> str:
    """Handle status 416: nothing is missing, or what is there belongs to another file."""
    if known is not None and part.stat().st_size == known.total_bytes:
        return _hash_existing(part).hexdigest()
    _discard(part)
    raise _BrokenError("the server refused to go on from the part; starting anew")


def _raise_for_status(response: requests.Response) -> None:
    message = f"HTTP {response.status_code} {response.reason}"
    if response.status_code in (408, 425, 429) or response.status_code >= 500:
        raise _BrokenError(message)
    if response.status_code in (401, 403):
        message += ": needs a login or a licence there, and none is sent"
    raise _GiveUpError(message)


def _part_path(target: Path, url: str) -> Path:
    return target.with_name(f"{target.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")


def _origin_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_origin(part: Path) -> _Offer | None:
    try:
        return _Offer(**json.loads(_origin_path(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write_origin(part: Path, offer: _Offer) -> None:
    place = _origin_path(part)
    aside = place.with_name(place.name + ".writing")
    aside.write_text(json.dumps(offer._asdict()))
    os.replace(aside, place)


def _discard(part: Path) -> None:
    for path in (part, _origin_path(part)):
        path.unlink(missing_ok=True)


def _hash_existing(path: Path) -> Any:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest


def _reason(error: Exception) -> str:
    """Return a short one-line reason, without the addresses of objects that urllib3 puts in."""
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    cause = getattr(inner, "reason", None) or inner
    text = " ".join(str(cause).split()) or type(cause).__name__
    return re.sub(r"^\S*Connection(Pool)?\(.*?\): |^<[^>]*>: ", "", text)[:200]
