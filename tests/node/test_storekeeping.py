"""What a node is asked of its store."""

from __future__ import annotations

import os
from unittest.mock import Mock

import pytest

from p2pboot.errors import P2PBootError
from p2pboot.node.control import Request
from p2pboot.node.storekeeping import StoreKeeping


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
