import json
import re

from stages.gesturenet.labelling.page import render_page
from tests.stages.gesturenet.labelling.samples import CLASSES, make_crop


def page_data(page: str) -> dict:
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_holds_crops_and_their_labels_alone() -> None:
    crops = [make_crop("a.jpg"), make_crop("b.jpg", None)]
    labels = {"b.jpg": "ok", "gone.jpg": "fist"}
    data = page_data(render_page(crops, labels, classes=CLASSES, command="run", token="T"))
    assert data["crops"] == [["a.jpg", "fist", 0.75], ["b.jpg", None, None]]
    assert data["labels"] == {"b.jpg": "ok"}
    assert data["token"] == "T"


def test_no_text_can_end_the_script_or_fill_a_gap() -> None:
    evil = "</script><script>alert(1)</script>{{css}}"
    page = render_page([make_crop(evil)], {}, classes=CLASSES, command=evil)
    assert page.count("<script") == 2
    assert page_data(page)["crops"][0][0] == evil


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = render_page([make_crop("a.jpg")], {}, classes=CLASSES, command="run")
    assert re.findall(r"https?://|//[a-z]+\.|@import|url\(", page) == []
    assert "{{" not in page
