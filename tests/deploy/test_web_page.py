"""The page in a real browser: picture, gesture, events and state; an empty console."""

import sys
import time

import pytest

from deploy.core.smoother import Phase
from tests.deploy.test_web import EVENT, Page
from tests.deploy.tiny_models import draw_frame


@pytest.mark.skipif(sys.version_info < (3, 10), reason="the browser's driver needs Python 3.10")
@pytest.mark.parametrize("width", [1280, 390])
def test_page_shows_the_run(width):
    from tests.stages.gesturenet.labelling import webdriver

    if not webdriver.is_installed():
        pytest.skip("needs chromium and chromedriver: make browser")
    page = Page()
    try:
        with webdriver.open_browser() as browser:
            browser._call("POST", "/window/rect", {"width": width, "height": 844})
            browser.open("http://{}:{}/".format(*page.server.address))
            for index in range(40):
                page.health.add_frame()
                page.latency.add("total", 20.0)
                page.pictures.write(draw_frame([("fist", 8 * index, 100)]), index)
                if index == 30:
                    page.events.write(EVENT._replace(phase=Phase.BEGIN, gesture="thumbs_up"))
                time.sleep(0.05)
            shown = browser.run("return document.getElementById('gesture').textContent")
            state = browser.run("return document.getElementById('state').textContent")
            picture = browser.run("return document.getElementById('picture').naturalWidth")
            overflow = browser.run("return document.body.scrollWidth - document.body.clientWidth")
            page.events.write(EVENT)
            time.sleep(0.3)
            rows = browser.run("return document.getElementById('events').innerText")
            after = browser.run("return document.getElementById('gesture').textContent")
            complaints = browser.complaints()
    finally:
        page.close()
    assert (shown, after, state) == ("thumbs up", "none", "source is live")
    assert picture == 640
    assert overflow == 0
    assert "begin" in rows
    assert "lost" in rows
    assert complaints == []
