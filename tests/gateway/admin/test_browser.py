"""The page in a real browser."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from p2pboot.testing.waiting import wait_until
from tests.browser import Browser, Page, browsing
from tests.gateway.admin.watched import EVIL, SayingNode, document_of, shown

LIVE = "document.documentElement.classList.contains('scripted')"

# WCAG 2.2, 1.4.3: every text against the nearest ground that is not transparent.
CONTRAST = """
(() => {
  const part = (c) => { c /= 255; return c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  const colour = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = colour(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.nodeValue.trim() || !element.checkVisibility() || element.closest("noscript, script")) continue;
    const [one, other] = [light(colour(getComputedStyle(element).color)), light(ground(element))];
    const contrast = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
    if (contrast < 4.5) poor.push(`${node.nodeValue.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return poor;
})()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    return document_of(tmp_path / "said")


@pytest.fixture
def served(tmp_path: Path, document: dict[str, Any]) -> Iterator[tuple[str, SayingNode]]:
    with shown(tmp_path, document) as (url, node):
        yield url, node


def clean(page: Page, url: str) -> None:
    """Nothing was complained of, and nobody else was asked for anything."""
    assert page.complaints == []
    assert all(asked.startswith(f"{url}/") for asked in page.requests), page.requests


def changed(node: SayingNode, **said: Any) -> None:
    node.document = {**copy.deepcopy(node.document), **said}


def problem(code: str = "quota", subject: str = "stable/x86_64") -> dict[str, Any]:
    said = {"text": "it does not fit", "remedy": "make room", "since": 1_800_000_000}
    return {"code": code, "subject": subject, "severity": "warning", "link": f"docs/x.md#{code}", **said}


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_shown_and_complains_of_nothing(
    browser: Browser, served: tuple[str, SayingNode], dark: bool
) -> None:
    url, _ = served
    page = browser.page(dark=dark)
    page.open(url)
    page.wait_for(LIVE)
    text = page.text()
    for said in ("boot-1", "it is wrong", "What to do: set it", "stable/x86_64", "somebody", "192.0.2.9"):
        assert said in text
    assert page.evaluate(CONTRAST) == []
    red, green, blue = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (red + green + blue < 200) is dark
    page.wait_for("performance.getEntriesByType('resource').length >= 2")
    clean(page, url)


def test_a_page_of_one_problem(browser: Browser, served: tuple[str, SayingNode]) -> None:
    url, _ = served
    page = browser.page(width=360)
    page.open(f"{url}/problems/clock")
    assert "this machine's clock is wrong" in page.text()
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    clean(page, url)


def test_what_changes_is_shown_without_a_reload(browser: Browser, served: tuple[str, SayingNode]) -> None:
    url, node = served
    page = browser.page()
    page.open(url)
    page.evaluate("window.before = document.getElementById('releases').firstElementChild")
    artifact = node.document["fetching"][0]["artifacts"][0]
    node.document = copy.deepcopy(node.document)
    node.document["fetching"][0]["artifacts"][0] |= {
        "done": artifact["size"],
        "held": [0, artifact["pieces"]],
    }
    node.document["problems"].append(problem())
    page.wait_for("document.getElementById('problems').innerText.includes('it does not fit')")
    done = f"document.querySelector('#fetching .artifacts progress').value === {artifact['size']}"
    page.wait_for(done)
    page.wait_for("document.getElementById('summary').innerText.includes('1 error, 1 warning')")
    changed(node, problems=[])
    page.wait_for("document.getElementById('problems').innerText.includes('None')")
    # What did not change was not touched, and nothing was loaded again.
    assert page.evaluate("window.before === document.getElementById('releases').firstElementChild")
    assert sum(asked == f"{url}/" for asked in page.requests) == 1
    clean(page, url)


def test_focus_selection_and_scroll_stay_while_it_changes(
    browser: Browser, served: tuple[str, SayingNode]
) -> None:
    url, node = served
    page = browser.page(height=400)
    page.open(url)
    page.evaluate("document.querySelector('#problems a').focus()")
    page.evaluate("scrollTo(0, 600)")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#releases code'))")
    selected, top = page.evaluate("[getSelection().toString(), scrollY]")
    assert selected.startswith("ed25519:")
    node.document = copy.deepcopy(node.document)
    node.document["problems"][0]["text"] = "it is still wrong"
    for head in node.document["heads"]:
        head["expires_in_s"] -= 3600
    page.wait_for("document.getElementById('problems').innerText.includes('still wrong')")
    assert page.evaluate("document.activeElement.matches('#problems a')")
    assert page.evaluate("[getSelection().toString(), scrollY]") == [selected, top]
    assert "in 1 d" in page.text("#releases")  # it waits until nothing in there is selected
    page.evaluate("getSelection().removeAllRanges()")
    page.wait_for("document.getElementById('releases').innerText.includes('in 23 h')")
    clean(page, url)


def test_a_page_that_nobody_sees_watches_nothing(browser: Browser, served: tuple[str, SayingNode]) -> None:
    url, node = served
    page = browser.page()
    page.open(url)
    wait_until(lambda: node.service.watching == 1, "the page's stream")
    see = "Object.defineProperty(document, 'hidden', {{value: {}, configurable: true}});"
    told = "document.dispatchEvent(new Event('visibilitychange')); 0"
    page.evaluate(see.format("true") + told)
    wait_until(lambda: node.service.watching == 0, "the end of the stream")
    changed(node, problems=[problem(subject="while nobody looked")])
    assert "while nobody looked" not in page.text()
    page.evaluate(see.format("false") + told)
    page.wait_for("document.getElementById('problems').innerText.includes('while nobody looked')")
    assert node.service.watching == 1
    clean(page, url)


def test_it_says_when_the_node_is_gone_and_when_it_is_back(
    browser: Browser, tmp_path: Path, document: dict[str, Any]
) -> None:
    page = browser.page()
    with shown(tmp_path, document) as (url, _):
        page.open(url)
        page.wait_for(LIVE)
        assert page.evaluate("document.getElementById('live').hidden")
    page.wait_for("document.getElementById('live').innerText.includes('does not answer')")
    assert "it is wrong" in page.text()
    document["problems"] = [problem(subject="after the restart")]
    with shown(tmp_path, document, port=int(url.rpartition(":")[2])):
        page.wait_for("document.getElementById('problems').innerText.includes('after the restart')")
        assert page.evaluate("document.getElementById('live').hidden")


def test_it_is_readable_without_scripts(browser: Browser, served: tuple[str, SayingNode]) -> None:
    url, _ = served
    page = browser.page(scripts=False)
    page.open(url)
    text = page.text()
    for said in ("Without scripts", "it is wrong", "stable/x86_64", "somebody", "192.0.2.9", "10 B/s"):
        assert said in text
    assert not page.evaluate("document.querySelector('.copy').checkVisibility()")
    assert not any("events" in asked for asked in page.requests)
    clean(page, url)


def test_digests_are_copied(browser: Browser, served: tuple[str, SayingNode]) -> None:
    url, node = served
    digest = node.document["heads"][0]["artifacts"][0]["sha256"]
    page = browser.page()
    page.open(url)
    page.wait_for(LIVE)
    button = "document.querySelector('#releases table .copy')"
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }; 0")
    page.evaluate(f"{button}.click()")
    page.wait_for(f"{button}.textContent === 'copied'")
    assert page.evaluate("window.copied") == digest
    # Where a browser does not let it, the digest is selected for the keyboard.
    page.evaluate("navigator.clipboard.writeText = () => Promise.reject(new Error('no')); 0")
    page.evaluate(f"{button}.click()")
    page.wait_for(f"getSelection().toString() === '{digest}'")
    clean(page, url)


def test_nothing_that_strangers_are_called_is_run(
    browser: Browser, tmp_path: Path, document: dict[str, Any]
) -> None:
    document["peers"][0]["name"] = EVIL
    document["peers"][0]["holds"] = [EVIL]
    document["heads"][0]["version"] = "W" * 128
    document["heads"][0]["provider"] = {"peer_id": EVIL, "name": EVIL}
    document["name"] = EVIL
    with shown(tmp_path, document) as (url, node):
        page = browser.page(width=360, height=640)
        page.open(url)
        page.wait_for(LIVE)
        changed(node, problems=[problem(subject=EVIL)])
        page.wait_for("document.getElementById('problems').innerText.includes('onerror=alert(2)')")
        assert page.evaluate("document.querySelectorAll('img, main script').length") == 0
        assert EVIL in page.text("#peers")
        clean(page, url)


@pytest.mark.parametrize("peers", [1, 256])
def test_a_phone_scrolls_one_way_only(browser: Browser, tmp_path: Path, peers: int) -> None:
    document = document_of(tmp_path / "said", peers=peers, clients=64)
    for peer in document["peers"]:
        peer["name"] = "W" * 64
    for called in ("ed25519:" + "a" * 64, "W" * 128):
        document["store"]["publishers"].append({"publisher": called, "used": 1, "limit": None})
    document["addresses"] = ["/dns4/" + "w" * 250 + "/tcp/4001/p2p/" + document["peer_id"]]
    document["http"] = ["http://" + "w" * 250]
    with shown(tmp_path, document) as (url, _):
        page = browser.page(width=360, height=640)
        page.open(url)
        page.wait_for(LIVE)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        wide = "Array.from(document.querySelectorAll('body *')).filter(e => e.getBoundingClientRect().right > 361)"
        assert (
            page.evaluate(f"{wide}.filter(e => e.checkVisibility()).map(e => e.outerHTML.slice(0, 80))") == []
        )
        clean(page, url)


@pytest.mark.parametrize("width", [1280, 360])
def test_a_screen_reader_is_told_what_there_is(
    browser: Browser, served: tuple[str, SayingNode], width: int
) -> None:
    url, _ = served
    page = browser.page(width=width)
    page.open(url)
    page.wait_for(LIVE)
    told = page.accessible()
    roles = [role for role, _ in told]
    for landmark in ("banner", "main", "contentinfo"):
        assert roles.count(landmark) == 1
    headings = [name for role, name in told if role == "heading"]
    assert headings[:3] == ["boot-1 mirror", "Problems", "Being fetched now"]
    regions = [name for role, name in told if role == "region"]
    assert regions[0] == "Problems"
    assert len(regions) == 8
    tables = [name for role, name in told if role == "table"]
    assert any(name.startswith("1 of 1 connected peer") for name in tables)
    assert all(tables)
    assert "rowheader" in roles
    assert roles.count("columnheader") >= 3
    for role, name in told:
        if role in ("link", "button", "progressbar", "image", "img", "meter"):
            assert name, role
    assert any(name == "Copy the SHA-256 of kernel" for _, name in told)
    levels = page.evaluate("Array.from(document.querySelectorAll('h1,h2,h3,h4')).map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    live = page.evaluate(
        "Array.from(document.querySelectorAll('[aria-live], [role=alert], [role=status]')).map(e => e.id)"
    )
    assert live == ["problems"]


def test_a_keyboard_is_enough(browser: Browser, served: tuple[str, SayingNode]) -> None:
    url, _ = served
    page = browser.page()
    page.open(url)
    page.wait_for(LIVE)
    page.call("Page.bringToFront")
    page.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left >= 0")
    page.press("Enter")
    page.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "About clock"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.press("Tab")
    assert page.evaluate("document.activeElement.className") == "copy"
