"""The lines that a node prints: where it can be reached."""

from __future__ import annotations

import pytest

from p2pboot.cli import output
from p2pboot.cli.node import _Announcer


def test_each_address_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    announce = _Announcer()
    announce("/ip4/127.0.0.1/tcp/4001")
    announce("/ip4/192.0.2.1/tcp/4001")
    assert capsys.readouterr().out == "/ip4/127.0.0.1/tcp/4001\n/ip4/192.0.2.1/tcp/4001\n"


def test_a_reader_that_is_gone_matters_for_the_first_line_only(monkeypatch: pytest.MonkeyPatch) -> None:
    discarded, broken = [], [True]

    def write(*_: object, **__: object) -> None:
        if broken[0]:
            raise BrokenPipeError

    monkeypatch.setattr("builtins.print", write)
    monkeypatch.setattr(output, "discard_stdout", lambda: discarded.append(True))
    announce = _Announcer()
    with pytest.raises(BrokenPipeError):
        announce("/ip4/127.0.0.1/tcp/4001")
    assert not discarded
    broken[0] = False
    announce("/ip4/127.0.0.1/tcp/4001")
    broken[0] = True
    announce("/ip4/192.0.2.1/tcp/4001")
    assert discarded
