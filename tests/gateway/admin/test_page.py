"""The page as text."""

from __future__ import annotations

import copy
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.problems import Code
from p2pboot.gateway import accepting
from p2pboot.gateway.admin import page, service
from p2pboot.gateway.admin.app import POLICY
from p2pboot.gateway.admin.page import inline, sections, whole
from p2pboot.node.status.running import MAX_PEERS
from p2pboot.node.troubleshooting import entries
from p2pboot.store.store import Store
from tests.gateway.admin.watched import EVIL, SayingNode, document_of
from tests.gateway.clients import connected, drained, request, status_of
from tests.gateway.world import OfferingNode, Running, gateway_settings, put, serving
from tests.node.status.filled import FLEET

REPOSITORY = Path(__file__).parents[3]
VOID = {"meta", "link", "br", "img", "input", "path"}


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    return document_of(tmp_path / "said")


class Strict(HTMLParser):
    """Reads a page, and notes what a policy of `self` alone forbids, and tags that do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "style" or name.startswith("on"):
                self.wrong.append(f"{tag} {name}")
            if name in ("src", "href"):
                self.links.append(str(value))
        if tag == "style" or (tag == "script" and "src" not in dict(attrs)):
            self.wrong.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"/{tag}")


def read(text: str) -> Strict:
    parser = Strict()
    parser.feed(text)
    parser.close()
    return parser


def poisoned(value: Any) -> Any:
    """The same document, with every text in it chosen by somebody who means ill."""
    if isinstance(value, dict):
        return {key: poisoned(one) for key, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one) for one in value]
    return EVIL if isinstance(value, str) else value


def test_all_that_the_document_says_is_there(document: dict[str, Any]) -> None:
    text = whole(document).decode()
    head = document["heads"][1]
    assert head["channel"] == "stable"
    for said in (
        *("stable/x86_64", head["version"], head["expires_at"], *head["signers"], head["publisher"]),
        *(one["sha256"] for one in head["artifacts"]),
        *("Expires</dt><dd>in 1 d", "somebody", "DHT", "12.3 ms", "stable/x86_64 #7", "192.0.2.9"),
        *(
            "Root ops",
            FLEET,
            "1, of <time>",
            "Publishes old, stable for arm64, x86_64",
            "1 min ago",
            "25 % of 50 %",
        ),
        *("it is wrong", "What to do:</b> set it", "/problems/clock", "10 B/s, 5 h 27 min left"),
        *(
            "1 held, 2 B",
            document["peer_id"],
            "WORKING IN PART: offers 2 releases and 1 snapshot, fetching ",
        ),
    ):
        assert said in text, said
    assert text.index('id="problems"') < text.index('id="fetching"') < text.index('id="releases"')


def test_a_publisher_without_a_name_is_called_by_its_own_word(document: dict[str, Any]) -> None:
    key = "ed25519:" + "a" * 64
    head = document["heads"][1] | {"publisher": key, "signers": [key]}
    document["heads"] = [head]
    document["store"]["publishers"] = [{"publisher": key, "used": 1, "limit": None}]
    for provider, name in ((head["provider"] | {"name": "builder"}, "builder "), (None, "")):
        head["provider"] = provider
        made = sections(document)
        shown = f'{name}<code title="{key}">ed25519:aaaaaaaa…</code>'
        assert f"<dt>Publisher</dt><dd>{shown}</dd>" in made["releases"]
        assert f"<dt>Of {shown}</dt>" in made["store"]
        assert made["releases"].count(f">{key}<") == 1  # the signer


def test_nothing_is_inline_and_nothing_is_from_elsewhere(document: dict[str, Any]) -> None:
    parsed = read(whole(document).decode())
    assert parsed.wrong == []
    assert parsed.open == []
    assert all(link.startswith(("/", "#")) for link in parsed.links)


def test_whatever_strangers_are_called_is_text(document: dict[str, Any]) -> None:
    clean = read(whole(document).decode())
    evil = poisoned(document)
    text = whole(evil).decode()
    parsed = read(text)
    assert parsed.wrong == []
    assert len(parsed.open) == len(clean.open) == 0
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_of_a_node_with_nothing_the_page_says_so(document: dict[str, Any]) -> None:
    nothing = copy.deepcopy(document)
    for key in ("heads", "fetching", "peers", "clients", "problems", "withheld", "addresses", "http"):
        nothing[key] = []
    nothing["trust"] |= {"roots": [], "pairs": [], "pairs_total": 0, "rollouts": []}
    nothing |= {"peers_total": 0, "dht": None, "snapshots": None, "scrub": None}
    for flows in ("received", "sent"):
        nothing["flows"][flows] = {one: [] for one in nothing["flows"][flows]}
    parts = sections(nothing)
    assert "not ready: nothing is offered, 0 peers, nothing wrong" in parts["summary"]
    assert "None: nothing is wrong" in parts["problems"]
    assert "Nobody is connected" in parts["peers"]
    assert "Nothing is known yet of what is trusted here" in parts["trust"]
    assert "None since this node started" in parts["clients"]
    assert read(whole(nothing).decode()).wrong == []


def test_waiting_is_said(document: dict[str, Any]) -> None:
    for one in document["fetching"][0]["artifacts"]:
        one |= {"rate": 0, "left_s": None, "waiting_s": 12}
    parts = sections(document)
    assert "waiting for a peer, 12 s" in parts["fetching"]


def test_it_is_bounded(tmp_path: Path) -> None:
    document = document_of(tmp_path / "said", peers=MAX_PEERS + 9, clients=64)
    assert len(whole(document)) < 256 << 10
    (head,) = [one for one in document["heads"] if one["channel"] == "stable"]
    many = {**head, "artifacts": [head["artifacts"][0]] * 4096, "artifacts_total": 4096}
    document["heads"] = [many] * 4096
    document["problems"] *= 4096
    document["withheld"] *= 4096
    document["addresses"] *= 4096
    document["http"] *= 4096
    document["fetching"][0]["artifacts"] *= 1024
    document["fetching"] *= 1024
    assert len(whole(document)) < 2 << 20
    assert f"{4096 - page.MAX_PROBLEMS} more are in" in sections(document)["problems"]


@pytest.mark.parametrize("code", list(Code))
async def test_every_code_has_a_page(gateway: Running, code: Code) -> None:
    reply = await gateway.report(f"/problems/{code}")
    assert reply.status == 200
    text = reply.body.decode()
    assert entries()[code].title in unescape(text)
    assert read(text).wrong == []
    assert "**" not in text
    assert "](" not in text


def test_marks_of_our_own_documentation_become_html() -> None:
    assert inline("a `b<c>` **d `e`** [f `g`](h.md) & i") == (
        "a <code>b&lt;c&gt;</code> <strong>d <code>e</code></strong> f <code>g</code> &amp; i"
    )


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01 not HTTP\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (32 << 10) + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * (32 << 10) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    ],
)
async def test_what_is_no_request_is_refused_with_the_policy(
    gateway: Running, sent: bytes, status: int
) -> None:
    async with connected(gateway.admin.port, sent) as client:
        reply = await drained(client)
    assert status_of(reply) == status
    assert f"\r\nContent-Security-Policy: {POLICY}\r\n".encode() in reply


async def test_who_gets_no_connection_is_refused_with_the_policy(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    monkeypatch.setattr(service, "SLOTS", 1)
    monkeypatch.setattr(accepting, "WAIT_S", 0.01)
    async with serving(OfferingNode(store), gateway_settings(tmp_path)) as gateway:
        watching = request("/events", "Host: localhost")
        async with (
            connected(gateway.admin.port, watching) as first,
            connected(gateway.admin.port, watching) as other,
        ):
            await first.receive_some(1)
            reply = await drained(other)
    assert status_of(reply) == 503
    assert f"\r\nContent-Security-Policy: {POLICY}\r\n".encode() in reply


async def test_pages_have_the_policy_and_are_not_kept(gateway: Running, tmp_path: Path) -> None:
    for path in ("/", "/problems/clock", "/status", "/metrics", "/none"):
        reply = await gateway.report(path)
        assert reply["Content-Security-Policy"] == POLICY
        assert reply["X-Content-Type-Options"] == "nosniff"
        assert reply["Referrer-Policy"] == "no-referrer"
        assert reply["Cache-Control"] == "no-store"
    assert POLICY == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert (await gateway.report("/problems/none")).status == 404
    assert (await gateway.report("/problems/../status")).status == 404


async def test_what_the_page_loads_is_served_and_may_be_kept_for_a_while(
    gateway: Running, document: dict[str, Any]
) -> None:
    links = {link for link in read(whole(document).decode()).links if link.startswith("/static/")}
    assert {re.sub(r"\?.*", "", link) for link in links} == {
        "/static/page.css",
        "/static/page.js",
        "/static/icon.svg",
    }
    for link in links:
        reply = await gateway.report(link)
        assert reply.status == 200
        assert reply["Cache-Control"] == "max-age=300"
        assert reply["Content-Type"].startswith(("text/css", "text/javascript", "image/svg+xml"))
        assert link.endswith(reply["ETag"].strip('"')[:16])
        assert (await gateway.report(link, {"If-None-Match": reply["ETag"]})).status == 304
    assert (await gateway.report("/static/none.js")).status == 404


async def test_one_document_is_made_for_one_page(
    store: Store, tmp_path: Path, document: dict[str, Any]
) -> None:
    node = SayingNode(store)
    node.document = document
    async with serving(node, gateway_settings(tmp_path)) as gateway:
        assert node.asked == 0
        for asked, path in enumerate(("/", "/status"), start=1):
            assert (await gateway.report(path)).status == 200
            assert node.asked == asked


def test_what_trust_says_is_shown_as_it_is(document: dict[str, Any]) -> None:
    trust = document["trust"]
    trust["evidence"] = 2
    pair = next(one for one in trust["pairs"] if one["statement"] is not None)
    pair["statement"] |= {"age_s": None, "paused_since": "2026-11-26T12:00:00Z"}
    pair |= {"yanks": 1, "yanked_at": "2026-11-25T12:00:00Z", "yank_reason": "it does not boot"}
    trust["roots"][0] |= {"expires_in_s": -1, "on_expiry": "refuse"}
    trust["roots"].append(
        {**trust["roots"][0], "version": None, "fleet": None, "name": None, "publishers": []}
    )
    shown = sections(document)["trust"]
    for said in (
        *(
            "how long ago nobody can tell",
            "paused</strong> since <time>2026-11-26T12:00:00Z",
            "it does not boot",
        ),
        *("expired</strong>", "and nothing is taken then", "not known here yet", "2 pairs of documents"),
    ):
        assert said in shown, said
