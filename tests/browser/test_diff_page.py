"""The page of a diff, looked at in a real browser."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tests.browser.chromium import available, dom, pdf, screenshot
from tests.report.test_diff import Page
from tests.support.differing import HOSTILE, LAYERS, write_pair
from vbuild.commands.diff import diff
from vbuild.errors import printable
from vbuild.report import diff_html

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(available() is None, reason="tests/browser/install has not been run"),
]

WINDOW = (1280, 1000)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page whose names are hostile, in a file."""
    root = tmp_path_factory.mktemp("page")
    path = root / "diff.html"
    path.write_text(diff_html.page(diff(*write_pair(root, hostile=True))), encoding="utf-8")
    return path


def colours(name, dark=False):
    """The colour of a level, from the style sheet."""
    sheet = (diff_html.Path(diff_html.__file__).parent / "diff.css").read_text()
    found = re.findall(rf"--{name}: #([0-9a-f]{{6}})", sheet)[int(dark)]
    return tuple(bytes.fromhex(found))


def has(picture, colour, at_least=200):
    return int((picture == np.array(colour)).all(axis=2).sum()) >= at_least


def test_the_dom_has_the_picture_and_no_name_has_become_an_element(page):
    text = dom(page)
    made = Page(text)
    assert made.text_of("h1") == ["The weights differ"]
    rows = re.search(
        r'<table class="grid"><caption>model\.layers.*?<tbody>(.*?)</tbody>', text, re.S
    )
    assert rows is not None
    assert rows[1].count("<tr>") == LAYERS
    tags = {tag for tag, _ in made.elements}
    assert not tags & {"script", "img", "b", "svg", "iframe", "object", "link"}
    shown = [data for where, data in made.texts if where in ("th", "span")]
    assert all(printable(name) in shown for name in HOSTILE)
    assert not [attrs for _, attrs in made.elements if any(n.startswith("on") for n in attrs)]


def test_the_picture_shows_where_the_model_has_changed(page):
    picture = screenshot(page, *WINDOW)
    assert picture.shape == (WINDOW[1], WINDOW[0], 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    for level in ("l9", "l5", "zero", "back"):
        assert has(picture, colours(level)), level
    # Layer 4 of six has changed most: the darkest cells are in one row, below the middle.
    darkest = np.flatnonzero((picture == np.array(colours("l9"))).all(axis=2).sum(axis=1) > 60)
    assert darkest.size
    assert darkest.max() - darkest.min() < WINDOW[1] // 2


def test_it_is_dark_where_the_user_wants_it_dark(page):
    picture = screenshot(page, *WINDOW, dark=True)
    assert has(picture, colours("back", dark=True), at_least=WINDOW[0] * WINDOW[1] // 4)
    assert has(picture, colours("l9", dark=True))
    assert not has(picture, colours("back"))


def test_another_measure_gives_another_picture(page):
    other = page.with_name("ulp.html")
    text = page.read_text(encoding="utf-8")
    for key in ("share", "ulp"):
        text = text.replace(f'id="m-{key}" checked', f'id="m-{key}"')
    other.write_text(text.replace('id="m-ulp"', 'id="m-ulp" checked'), encoding="utf-8")
    assert (screenshot(other, *WINDOW) != screenshot(page, *WINDOW)).any()


def test_it_fits_a_narrow_window(page):
    wide = "<script>document.title = document.documentElement.scrollWidth</script>"
    text = page.read_text(encoding="utf-8")
    policy = re.search(r"<meta http-equiv[^>]*>", text)
    assert policy is not None
    style = text.replace(policy[0], "").replace("</body>", wide + "</body>")
    probe = page.with_name("narrow.html")
    probe.write_text(style, encoding="utf-8")
    title = re.search(r"<title>(\d+)</title>", dom(probe, "--window-size=500,900"))
    assert title is not None
    assert int(title[1]) <= 500


def test_it_can_be_printed(page):
    printed = pdf(page)
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page>") >= 1
    assert len(printed) > 20_000


def test_its_policy_lets_nothing_in_even_if_something_were_smuggled_into_it(page, tmp_path):
    asked = []

    class Ear(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Ear) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = f"http://127.0.0.1:{server.server_port}"
        smuggled = (
            f'<script>document.title = "run"; fetch("{there}/fetch")</script>'
            f'<script src="{there}/script"></script><img src="{there}/image">'
            f'<link rel="stylesheet" href="{there}/style"><iframe src="{there}/frame"></iframe>'
            f"<style>body {{ background: url({there}/url) }}</style>"
        )
        text = page.read_text(encoding="utf-8")
        with_policy, without = tmp_path / "with.html", tmp_path / "without.html"
        with_policy.write_text(text.replace("<header>", smuggled + "<header>"), encoding="utf-8")
        assert "<title>run</title>" not in dom(with_policy)
        assert asked == []
        bare = re.sub(r"<meta http-equiv[^>]*>", "", text)
        without.write_text(bare.replace("<header>", smuggled + "<header>"), encoding="utf-8")
        assert "<title>run</title>" in dom(without)  # so the test would notice
        assert "/image" in asked
        server.shutdown()
