"""A real browser for tests: headless Chromium, driven by the DevTools protocol.

Debian's packages `chromium` and, for its sandboxless start as root, nothing else are needed. What a page asked for,
what it complained of and what assistive technology is told of it can be read afterwards.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Request, TextMessage

from p2pboot.testing.waiting import HANG_S, wait_until

_GRACE_S: Final = 10.0
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_SWITCHES: Final = (
    *("--headless=new", "--remote-debugging-port=0", "--no-first-run", "--no-default-browser-check"),
    *("--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1"),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-extensions",
    ),
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    # Whatever a page might want from elsewhere does not even become a question to a resolver.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
)


def chromium() -> str:
    """Its path; where there is none, the test is skipped."""
    for name in _NAMES:
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip("no browser is installed here (Debian: chromium)")


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser with an empty profile; ended afterwards."""
    command = [chromium(), *_SWITCHES, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        with Path(profile, "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, f"--user-data-dir={profile}", "about:blank"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": profile},
            )
        try:
            told = Path(profile, "DevToolsActivePort")
            wait_until(
                lambda: told.exists() and told.read_text().count("\n") == 1,
                "the browser's port",
                within_s=HANG_S,
            )
            port, path = told.read_text().split("\n")
            browser = Browser(int(port), path)
            try:
                yield browser
            finally:
                browser.close()
        finally:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
            process.kill()
            process.wait()


class Browser:
    """The line to a browser.

    Args:
        port: on loopback.
        path: of its endpoint.
    """

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=HANG_S)
        self._line = WSConnection(ConnectionType.CLIENT)
        self._numbers = itertools.count(1)
        self._text = ""
        self._answers: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}
        self._is_open = False
        self._socket.sendall(self._line.send(Request(host=f"127.0.0.1:{port}", target=path)))
        while not self._is_open:
            self._receive()

    def close(self) -> None:
        """End the browser in order, so that no process of it writes into its profile any more, and hang up."""
        with suppress(AssertionError, OSError):
            self.call("Browser.close")
        self._socket.close()

    def page(self, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True) -> Page:
        """An empty page of a size in CSS pixels."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            page.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        page.call("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", {"features": [scheme]})
        page.call(
            "Emulation.setFocusEmulationEnabled", {"enabled": True}
        )  # as if it were in front, whatever else is
        page.call("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        return page

    def call(
        self, method: str, parameters: dict[str, Any] | None = None, session: str = ""
    ) -> dict[str, Any]:
        """Have the browser do something, and wait for its answer; fails where it refuses."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters or {}}
        if session:
            message["sessionId"] = session
        self._socket.sendall(self._line.send(TextMessage(json.dumps(message))))
        while number not in self._answers:
            self._receive()
        answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> None:
        data = self._socket.recv(1 << 16)
        assert data, "the browser is gone"
        self._line.receive_data(data)
        for event in self._line.events():
            match event:
                case AcceptConnection():
                    self._is_open = True
                case Ping():
                    self._socket.sendall(self._line.send(event.response()))
                case TextMessage(data=text, message_finished=is_whole):
                    self._text += text
                    if is_whole:
                        self._take(json.loads(self._text))
                        self._text = ""

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
        elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
            page.note(message["method"], message["params"])


class Page:
    """One page."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target
        self.requests: list[str] = []
        """URLs that it asked for."""
        self.complaints: list[str] = []
        """Errors and warnings of its console, faults of its scripts, what its policy forbade."""

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """As of `Browser`, for this page."""
        return self._browser.call(method, parameters, self._session)

    def note(self, method: str, parameters: dict[str, Any]) -> None:
        """An event of it."""
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Log.entryAdded":
                entry = parameters["entry"]
                if entry["level"] in ("error", "warning"):
                    self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                if parameters["type"] in ("error", "warning", "assert"):
                    self.complaints.append(json.dumps(parameters["args"]))

    def open(self, url: str) -> None:
        """Go there; waits for the document, not for what it goes on to load for ever."""
        answer = self.call("Page.navigate", {"url": url})
        assert "errorText" not in answer, answer
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, which may be a promise; what scripts of the page may not do, this may."""
        answer = self.call(
            "Runtime.evaluate",
            {"expression": expression, "returnByValue": True, "awaitPromise": True, "userGesture": True},
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, *, within_s: float = HANG_S) -> None:
        """Wait until it holds."""
        wait_until(lambda: bool(self.evaluate(f"!!({expression})")), expression, within_s=within_s)

    def text(self, selector: str = "body") -> str:
        """What is to be read there."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def accessible(self) -> list[tuple[str, str]]:
        """Roles and names as assistive technology is told them, in their order."""
        nodes = {node["nodeId"]: node for node in self.call("Accessibility.getFullAXTree")["nodes"]}

        def walk(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
            if not node.get("ignored") and "role" in node:
                yield node["role"]["value"], node.get("name", {}).get("value", "")
            for child in node.get("childIds", ()):
                if child in nodes:
                    yield from walk(nodes[child])

        (top,) = [node for node in nodes.values() if "parentId" not in node]
        return list(walk(top))

    def press(self, key: str) -> None:
        """Press and release a key, by its name."""
        codes = {"Tab": 9, "Enter": 13}
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent",
                {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": codes[key], **text},
            )

    def screenshot(self, path: Path, *, height: int | None = None) -> None:
        """Write what is to be seen as PNG, from the top; `height` in CSS pixels."""
        clip = {}
        if height is not None:
            width = self.evaluate("innerWidth")
            clip = {"clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}}
        shot = self.call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, **clip})
        path.write_bytes(base64.b64decode(shot["data"]))
