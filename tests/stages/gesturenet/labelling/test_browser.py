"""The page in a real browser (make browser installs it); skipped where there is none."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.gesturenet.labelling.journal import read_journal
from stages.gesturenet.labelling.labels import FILE_NAME, read_labels
from stages.gesturenet.labelling.page import render_page
from tests.stages.gesturenet.labelling import webdriver
from tests.stages.gesturenet.labelling.samples import CLASSES, serving, write_crops
from tests.stages.gesturenet.labelling.webdriver import Browser

pytestmark = pytest.mark.skipif(
    not webdriver.is_installed(), reason="needs chromium and chromedriver: make browser"
)

SHIFT, CONTROL, ESCAPE, ENTER, DELETE = "\ue008", "\ue009", "\ue00c", "\ue007", "\ue017"
LEFT, UP, RIGHT, DOWN = "\ue012", "\ue013", "\ue014", "\ue015"
NUM = 12  # four each of fist, stop and ok, in turn


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with webdriver.open_browser() as opened:
        yield opened


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_crops(tmp_path / "out", num=NUM)
    return tmp_path / "out"


@pytest.fixture
def page(out: Path, browser: Browser) -> Iterator[Browser]:
    """The page of `out`, open; nothing on it may have failed at the end."""
    with serving(out) as server:
        browser.open(server.address)
        yield browser
        complaints = browser.complaints()
        browser.open("about:blank")
    assert complaints == []


def name(index: int) -> str:
    return f"clip_{index:06d}-0.jpg"


def soon(out: Path, expected: dict[str, str]) -> None:
    """Fail unless labels.json says this within seconds."""
    wait_until(lambda: read_labels(out, classes=CLASSES) == expected)
    assert read_labels(out, classes=CLASSES) == expected


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def chosen(page: Browser) -> list[str]:
    return page.run("return [...document.querySelectorAll('.chosen')].map((t) => t.title)")


def counts(page: Browser) -> list[str]:
    script = "return [...document.querySelectorAll('#classes b')].map((b) => b.textContent)"
    return page.run(script)


def test_a_key_gives_a_class_and_goes_on_to_the_next(out: Path, page: Browser) -> None:
    page.click(".tile")
    page.press("2")
    soon(out, {name(0): "stop"})
    assert chosen(page) == [name(3)]
    page.press("1", "0", ENTER)
    soon(out, {name(0): "stop", name(3): "fist", name(6): "discard", name(9): "fist"})
    assert counts(page)[:4] == ["2", "1", "0", "1"]
    page.press("u")
    soon(out, {name(0): "stop", name(3): "fist", name(6): "discard"})
    page.press_with(CONTROL, "z")
    page.press("u", "u", "u")
    soon(out, {})


def test_shift_and_control_choose_several(out: Path, page: Browser) -> None:
    page.click(".tile")
    page.click(".tile", index=2, held=SHIFT)
    assert chosen(page) == [name(0), name(3), name(6)]
    page.click(".tile", index=1, held=CONTROL)
    assert chosen(page) == [name(0), name(6)]
    page.press(DELETE)
    soon(out, dict.fromkeys([name(0), name(6)], "discard"))
    page.press_with(CONTROL, "a")
    assert len(chosen(page)) == NUM
    page.press(ESCAPE)
    assert chosen(page) == []


def test_arrows_move_across_groups(page: Browser) -> None:
    page.click(".tile", index=1)  # the groups are rows of four here
    moves = [(RIGHT, 6), (DOWN, 7), (LEFT, 4), (UP, 3), (LEFT, 0), (LEFT, 0), (UP, 0)]
    for key, expected in moves:
        page.press(key)
        assert chosen(page) == [name(expected)], key
    page.press_with(SHIFT, RIGHT)
    assert chosen(page) == [name(0), name(3)]


def test_all_correct_confirms_the_rest_of_a_group(out: Path, page: Browser) -> None:
    page.click(".tile")
    page.press("3")
    page.click("h2 button")
    expected = {name(0): "ok", name(3): "fist", name(6): "fist", name(9): "fist"}
    soon(out, expected)
    assert counts(page)[:3] == ["3", "0", "1"]
    page.press("u")
    soon(out, {name(0): "ok"})
    assert counts(page)[:3] == ["0", "0", "1"]


def test_the_filter_shows_what_is_left(out: Path, page: Browser) -> None:
    script = (
        "const s = document.getElementById('filter'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('change'))"
    )
    shown = "return document.querySelectorAll('.tile:not([hidden])').length"
    page.run(script, "unsorted")
    page.click(".tile")
    page.press("1")
    assert page.run(shown) == NUM - 1
    page.run(script, "fist")
    assert page.run(shown) == 1
    assert chosen(page) == []
    page.press("2")  # nothing is chosen: nothing happens
    soon(out, {name(0): "fist"})


def test_the_button_writes_class_folders(out: Path, page: Browser) -> None:
    page.click(".tile")
    page.press("2")
    soon(out, {name(0): "stop"})
    page.click("#finish")
    wait_until((out / "classes" / "stop" / name(0)).is_file)
    assert (out / "classes" / "stop" / name(0)).is_file()
    status = "return document.getElementById('status').textContent"
    wait_until(lambda: "left out" in page.run(status))
    assert f"{NUM - 1} not sorted are left out" in page.run(status)


def test_pictures_are_loaded_when_they_are_seen(tmp_path: Path, browser: Browser) -> None:
    write_crops(tmp_path, num=600)
    with serving(tmp_path) as server:
        browser.open(server.address)
        loaded = browser.run(
            "return [...document.images].filter((i) => i.complete && i.naturalWidth).length"
        )
        total = browser.run("return document.images.length")
        browser.open("about:blank")
    assert total == 600
    assert loaded < 300


def test_what_was_not_saved_is_saved_when_the_server_is_back(out: Path, page: Browser) -> None:
    page.run("window.real = fetch; window.fetch = () => Promise.reject(new TypeError('gone'))")
    page.click(".tile")
    page.press("2", "1")
    status = "return document.getElementById('status').textContent"
    wait_until(lambda: page.run(status).startswith("Not saved"))
    assert page.run(status) == "Not saved: the program has ended; start it again: run"
    assert not (out / FILE_NAME).exists()
    page.run("window.fetch = window.real")
    soon(out, {name(0): "stop", name(3): "fist"})
    wait_until(lambda: page.run(status) == "Saved.")
    assert page.run(status) == "Saved."


def test_the_page_without_a_server_offers_labels_to_download(out: Path, browser: Browser) -> None:
    text = render_page(read_journal(out).crops, {}, classes=CLASSES, command="run")
    (out / "index.html").write_text(text)
    browser.open((out / "index.html").as_uri())
    browser.run(
        "URL.createObjectURL = (blob) => { window.saved = blob; return '#'; };"
    )  # a headless browser has no place for downloads
    browser.click(".tile")
    browser.press("2")
    browser.click("#finish")
    content = json.loads(browser.run("return window.saved.text()"))
    assert content == {"schema": 1, "labels": {name(0): "stop"}}
    browser.open("about:blank")
