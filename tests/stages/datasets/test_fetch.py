import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.datasets.errors import DatasetError
from stages.datasets.fetch import RetryPolicy, fetch
from tests.stages.datasets.file_server import BODY, QUICK, Server, serving

DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def ranges(server: Server) -> list[str | None]:
    return [wanted for _, wanted in server.log]


def leftovers(target: Path) -> list[str]:
    return [path.name for path in target.parent.iterdir() if path != target]


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "data.zip"
    assert fetch([server.url()], target, sha256=DIGEST) == DIGEST
    assert target.read_bytes() == BODY
    assert leftovers(target) == []


def test_a_cut_connection_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut_after = [600_000, 100_000]
    target = tmp_path / "data.zip"
    assert fetch([server.url()], target, retry=QUICK) == DIGEST
    assert target.read_bytes() == BODY
    first, *others = ranges(server)
    offsets = [int(str(wanted)[6:-1]) for wanted in others]
    assert first is None
    assert len(offsets) == 2
    assert 0 < offsets[0] <= offsets[1]


def test_a_later_run_resumes_what_an_earlier_one_left(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.zip"
    server.cut_after = [600_000]
    with pytest.raises(DatasetError, match="without progress"):
        fetch([server.url()], target, retry=RetryPolicy(attempts=1))
    assert not target.exists()
    assert fetch([server.url()], target, sha256=DIGEST) == DIGEST
    assert ranges(server)[1] is not None
    assert leftovers(target) == []


def test_a_server_without_ranges_restarts_cleanly(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [600_000]
    target = tmp_path / "data.zip"
    assert fetch([server.url()], target, sha256=DIGEST, retry=QUICK) == DIGEST
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("etag", ['"one"', 'W/"weak"', ""])
def test_a_file_that_changed_between_is_not_mixed(
    server: Server, tmp_path: Path, etag: str
) -> None:
    target = tmp_path / "data.zip"
    server.cut_after, server.etag = [600_000], etag
    with pytest.raises(DatasetError):
        fetch([server.url()], target, retry=RetryPolicy(attempts=1))
    server.body = BODY[:4] + b"other" * 200_001
    server.etag = etag and '"two"'
    assert fetch([server.url()], target, retry=QUICK) == hashlib.sha256(server.body).hexdigest()
    assert target.read_bytes() == server.body


def test_a_part_that_is_complete_is_taken_as_it_is(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.zip"
    server.cut_after = [len(BODY) - 1]
    with pytest.raises(DatasetError):
        fetch([server.url()], target, retry=RetryPolicy(attempts=1))
    part = next(path for path in tmp_path.iterdir() if path.suffix == ".part")
    part.write_bytes(BODY)
    assert fetch([server.url()], target, sha256=DIGEST, retry=QUICK) == DIGEST


def test_the_next_address_is_tried_after_404(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.zip"
    fetch([server.url("/missing.zip"), server.url()], target, sha256=DIGEST)
    assert [path for path, _ in server.log] == ["/missing.zip", "/data.zip"]
    assert leftovers(target) == []


def test_a_page_in_place_of_the_file_is_refused(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.zip"
    fetch([server.url("/page.zip"), server.url()], target, expected_start=b"PK")
    assert target.read_bytes() == BODY
    assert leftovers(target) == []


def test_all_failures_stand_in_one_line(server: Server, tmp_path: Path) -> None:
    urls = [server.url("/missing.zip"), server.url("/page.zip"), "http://127.0.0.1:9/data.zip"]
    with pytest.raises(DatasetError) as caught:
        fetch(urls, tmp_path / "data.zip", expected_start=b"PK", retry=QUICK)
    message = str(caught.value)
    assert "\n" not in message
    assert all(url in message for url in urls)
    for reason in ("HTTP 404", "text/html", "Connection refused", "set dataset.path"):
        assert reason in message


def test_a_wrong_checksum_discards_the_file(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.zip"
    with pytest.raises(DatasetError, match=f"SHA-256 is {DIGEST}, expected {'0' * 64}"):
        fetch([server.url()], target, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("sha256", "requests"), [(None, 0), (DIGEST, 1)])
def test_a_file_that_is_there_counts_if_its_checksum_agrees(
    server: Server, tmp_path: Path, sha256: str | None, requests: int
) -> None:
    target = tmp_path / "data.zip"
    target.write_bytes(b"PK another")
    fetch([server.url()], target, sha256=sha256)
    assert len(server.log) == requests


@pytest.mark.parametrize(("name", "status"), [("login", 401), ("forbidden", 403)])
def test_a_refusal_says_what_is_needed_and_what_else_to_do(
    server: Server, tmp_path: Path, name: str, status: int
) -> None:
    with pytest.raises(DatasetError, match=f"HTTP {status} .*: needs a login .*and ask Anna$"):
        fetch([server.url(f"/{name}.zip")], tmp_path / "data.zip", other_way="ask Anna")
    assert list(tmp_path.iterdir()) == []
