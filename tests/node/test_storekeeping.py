"""What a node is asked of its store."""

from __future__ import annotations

import base64
import os
from unittest.mock import Mock

import pytest

from p2pboot.errors import P2PBootError, UsageError
from p2pboot.node.control import Request
from p2pboot.node.storekeeping import StoreKeeping, _asked_trust
from p2pboot.testing.trustdocs import signed_root

ROOT = signed_root()


@pytest.mark.parametrize(
    "said", [f"sha256:{ROOT.digest}", base64.b64encode(ROOT.raw).decode()], ids=["digest", "itself"]
)
def test_a_root_is_named_by_its_digest_or_itself(said: str) -> None:
    policy = _asked_trust(Request(do="import", root=[said]))
    assert policy is not None
    assert [one.anchor.digest for one in policy.roots] == [ROOT.digest]


@pytest.mark.parametrize("said", ["root.json", "/etc/passwd", "sha256:x", "", "AA==", 7])
def test_a_root_is_never_a_path_that_the_node_would_read(said: object) -> None:
    with pytest.raises(UsageError, match="root must be"):
        _asked_trust(Request(do="import", root=[said]))


@pytest.mark.parametrize("trust", ["no list", [7], ["ed25519:nonsense"]])
async def test_what_was_sent_along_with_a_senseless_import_is_left_to_who_closes_it(trust: object) -> None:
    read, write = os.pipe()
    request = Request(do="import", path="stick", trust=trust)
    request.descriptor = read
    with pytest.raises(P2PBootError):
        await StoreKeeping(*(Mock() for _ in range(6))).answer(request)
    assert request.descriptor == read
    os.close(read)
    os.close(write)
