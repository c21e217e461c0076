"""Documents that look like manifests: what they are is said, and what to do instead of getting them again."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from p2pboot.core.clock import Clock
from p2pboot.core.manifest import Candidate
from p2pboot.core.policy import Publisher, TrustPolicy
from p2pboot.core.verify import Question, verify
from p2pboot.errors import Malformed
from p2pboot.gateway.phase import phase_view
from p2pboot.testing.manifests import ALICE
from tests.core.manifests import CREATED, manifest


def plasmd(**changes: Any) -> bytes:
    """The form that Phase's milestone shows: no spec, no signers, no pieces."""
    document = {
        "version": "2025.11.26",
        "manifest_version": 1,
        "created_at": "2025-11-26T12:00:00Z",
        "expires_at": "2025-12-26T12:00:00Z",
        "channel": "stable",
        "arch": "x86_64",
        "artifacts": {
            name: {
                "hash": f"sha256:{'a' * 64}",
                "size": 5,
                "path": f"/stable/x86_64/{name}",
                "urls": ["http://x/"],
            }
            for name in ("kernel", "initramfs")
        },
        "provider": {"peer_id": ALICE.public.peer_id, "name": "x"},
    } | changes
    document["signed"] = {"data": base64.b64encode(json.dumps(document).encode()).decode()}
    document["signatures"] = [{"keyid": ALICE.public.hex, "sig": "AAAA"}]
    return json.dumps(document).encode()


def without(raw: bytes, *members: str) -> bytes:
    document = json.loads(raw)
    return json.dumps({name: value for name, value in document.items() if name not in members}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        plasmd(),
        plasmd(artifacts={"kernel": {"hash": "a" * 64, "size_bytes": 5, "download_url": "/kernel"}}),
        without(plasmd(), "signed"),
        without(plasmd(), "signatures"),
        without(plasmd(), "signatures", "signed"),
    ],
)
def test_a_manifest_of_phases_own_tools_is_named_with_what_to_do(raw: bytes) -> None:
    check = verify(raw, Question(TrustPolicy((Publisher((ALICE.public.keyid,)),)), Clock(CREATED))).failed
    assert check is not None
    assert "Phase's own tools" in check.detail
    assert "p2pboot serve" in str(check.remedy)
    assert "phase-verify" in str(check.remedy)


def test_a_gateways_view_for_phase_names_the_manifest_itself() -> None:
    with pytest.raises(Malformed, match="view for Phase's tools") as caught:
        Candidate.decode(phase_view(manifest(), "http://192.0.2.7:8080"))
    assert "without /phase" in str(caught.value.remedy)


def test_a_manifest_of_another_version_asks_for_an_upgrade() -> None:
    with pytest.raises(Malformed, match="spec: 'p2pboot-manifest/2'") as caught:
        Candidate.decode(
            manifest().raw.replace(b'"spec":"p2pboot-manifest/1"', b'"spec":"p2pboot-manifest/2"')
        )
    assert "upgrade p2pboot" in str(caught.value.remedy)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"artifacts":5}', b'{"artifacts":{"kernel":7}}', b"[" * 9999]
)
def test_anything_else_is_to_be_got_again(raw: bytes) -> None:
    check = verify(raw, Question(TrustPolicy((Publisher((ALICE.public.keyid,)),)), Clock(CREATED))).failed
    assert check is not None
    assert "get the manifest again" in str(check.remedy)
