import base64
import hashlib
import itertools
import json
from typing import Any

import pytest

from p2pboot.core.manifest import (
    MAX_MANIFEST,
    Candidate,
    Manifest,
    add_signature,
    check_detached,
    missing_signers,
    sign,
    sign_detached,
    unsigned,
)
from p2pboot.core.timestamps import MAX_TIME
from p2pboot.errors import ArtifactError, ExitStatus, Malformed, SignatureError, UsageError
from p2pboot.testing.artifacts import artifact_of
from p2pboot.testing.manifests import ALICE, BOB, CAROL, STRANGER
from tests.core.manifests import CREATED, EXPIRES, body, manifest
from tests.core.phase_verify import phase_verify
from tests.vectors.manifest import form


def test_what_was_composed_is_what_is_read() -> None:
    found = manifest([BOB, ALICE], keys=["rootfs", "kernel", "dtbs/rpi-4", "initramfs"], cmdline="quiet")
    assert found.signers == tuple(sorted([ALICE.public.keyid, BOB.public.keyid]))
    assert list(found.artifacts) == ["dtbs/rpi-4", "initramfs", "kernel", "rootfs"]
    assert found.artifacts["dtbs/rpi-4"].path == "/stable/x86_64/dtbs/rpi-4"
    assert (found.created_at, found.expires_at, found.cmdline) == (CREATED, EXPIRES, "quiet")
    assert found.digest == hashlib.sha256(found.data).hexdigest()
    assert phase_verify(found.raw, ALICE.public.raw)["artifacts"]["dtbs"]["rpi-4"]["size"] == 1000


def test_a_manifest_without_command_line_says_none() -> None:
    assert manifest().cmdline is None
    assert b"cmdline" not in manifest().raw


def test_a_manifest_can_not_be_changed() -> None:
    found = manifest()
    with pytest.raises(AttributeError):
        found.channel = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.artifacts["kernel"] = found.artifacts["initramfs"]  # type: ignore[index]


def test_manifests_are_equal_when_their_bytes_are() -> None:
    assert manifest() == manifest()
    assert len({manifest(), manifest(), manifest(manifest_version=8)}) == 2
    assert manifest() != manifest().raw


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": ""}, "version: must not be empty"),
        ({"version": "1\n"}, "version: control character"),
        ({"version": "\udcff"}, "UTF-8"),
        ({"manifest_version": 0}, "manifest_version: 0 is not from 1"),
        ({"manifest_version": 2**53}, "9007199254740992"),
        ({"arch": "aarch64"}, "arch: 'aarch64'"),
        ({"channel": "Stable"}, "channel: the name 'Stable'"),
        ({"created_at": EXPIRES}, "expires_at: must be later"),
        ({"expires_at": MAX_TIME + 1}, "outside 1970 to 9999"),
        ({"created_at": -1}, "outside 1970 to 9999"),
        ({"cmdline": "x" * 4097}, "cmdline: 4097 bytes"),
        ({"provider_name": "n" * 256}, "provider.name: 256 bytes"),
        ({"signers": []}, "signers: 0 signers"),
        ({"signers": ["me"]}, "signers[0]: key id 'me'"),
        ({"keys": ["kernel"]}, "artifacts.initramfs: missing"),
        ({"keys": ["kernel", "initramfs", "cmdline"]}, "'cmdline' is reserved"),
    ],
)
def test_what_breaks_a_rule_can_not_be_composed(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        body(**changes)
    assert says in caught.value.message
    assert caught.value.exit_status is ExitStatus.USAGE


def test_an_artifact_is_composed_with_its_own_rules() -> None:
    other = [artifact_of("initramfs"), artifact_of("kernel", size=0)]
    with pytest.raises(UsageError, match=r"artifacts\.kernel\.size"):
        body(artifacts=other)
    with pytest.raises(UsageError, match=r"artifacts\.kernel\.path"):
        body(artifacts=[artifact_of("initramfs"), artifact_of("kernel", channel="testing")])


def test_two_artifacts_of_one_key_are_refused() -> None:
    with pytest.raises(ArtifactError, match="two artifacts are called 'kernel'"):
        body(keys=["kernel", "initramfs", "kernel"])


def test_more_device_trees_than_64_kib_can_hold_are_refused_with_a_remedy() -> None:
    with pytest.raises(ArtifactError) as caught:
        body(keys=["kernel", "initramfs", *(f"dtbs/board-{number}" for number in range(200))])
    assert "more than the 65536" in caught.value.message
    assert caught.value.remedy is not None
    assert "device trees" in caught.value.remedy


def test_the_largest_manifest_that_can_be_composed_can_be_read() -> None:
    """The size is judged before anybody has signed: it must count what the signatures will add."""
    boards = [f"dtbs/{number:x}" for number in range(200)]

    def fits(count: int) -> bool:
        try:
            body([ALICE, BOB], keys=["kernel", "initramfs", *boards[:count]])
        except ArtifactError:
            return False
        return True

    largest = next(count for count in itertools.count() if not fits(count + 1))
    found = manifest([ALICE, BOB], keys=["kernel", "initramfs", *boards[:largest]])
    assert MAX_MANIFEST - 1200 < len(found.raw) <= MAX_MANIFEST


def test_signatures_may_come_in_any_order_and_give_the_same_bytes() -> None:
    three = [ALICE, BOB, CAROL]
    made = set()
    for order in itertools.permutations(three):
        raw = unsigned(body(three))
        for done, key in enumerate(order):
            assert set(missing_signers(raw)) == {one.public.keyid for one in order[done:]}
            raw = add_signature(raw, key)
        made.add(raw)
    assert made == {sign(body(three), three)}


def test_signing_twice_changes_nothing() -> None:
    half = add_signature(unsigned(body([ALICE, BOB])), BOB)
    assert add_signature(half, BOB) == half
    whole = add_signature(half, ALICE)
    assert add_signature(whole, ALICE) == whole


def test_who_is_not_named_as_a_signer_can_not_sign() -> None:
    raw = unsigned(body([ALICE]))
    with pytest.raises(UsageError, match="is not one of the signers") as caught:
        add_signature(raw, STRANGER)
    assert ALICE.public.keyid in (caught.value.remedy or "")
    with pytest.raises(UsageError, match="is not one of the signers"):
        sign(body([ALICE]), [ALICE, STRANGER])


def test_signing_needs_every_signer() -> None:
    with pytest.raises(UsageError, match=BOB.public.keyid):
        sign(body([ALICE, BOB]), [ALICE])


@pytest.mark.parametrize("done", [0, 1])
def test_nobody_signs_a_document_that_was_altered(done: int) -> None:
    raw = unsigned(body([ALICE, BOB]))
    if done:
        raw = add_signature(raw, ALICE)
    altered = raw.replace(b'"manifest_version":7', b'"manifest_version":9', 1)
    assert altered != raw
    with pytest.raises(Malformed, match="manifest_version: differs from what was signed"):
        add_signature(altered, BOB)
    with pytest.raises(Malformed):
        add_signature(raw + b"\n", BOB)


def test_nobody_adds_to_a_signature_that_is_wrong() -> None:
    document = json.loads(add_signature(unsigned(body([ALICE, BOB])), ALICE))
    document["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    raw = form.canonical(document)
    with pytest.raises(SignatureError, match="does not match"):
        add_signature(raw, BOB)
    with pytest.raises(SignatureError, match="does not match"):
        missing_signers(raw)


def test_an_incomplete_manifest_is_refused_and_says_who_is_missing() -> None:
    raw = add_signature(unsigned(body([ALICE, BOB])), ALICE)
    with pytest.raises(SignatureError, match=f"not signed yet by {BOB.public.keyid}"):
        Manifest.parse(raw)


# --- stages ---


def test_a_candidate_tells_what_a_reader_asks_before_any_signature_is_checked() -> None:
    raw = sign(body([ALICE, BOB], channel="testing", arch="arm64"), [ALICE, BOB])
    document = json.loads(raw)
    document["signatures"][0]["sig"] = "AA=="
    candidate = Candidate.decode(json.dumps(document).encode())  # neither signed nor canonical: not asked yet
    assert (candidate.channel, candidate.arch) == ("testing", "arm64")
    assert set(candidate.signers) == {ALICE.public.keyid, BOB.public.keyid}
    assert candidate.digest == Manifest.parse(raw).digest


def test_the_form_is_never_accepted_without_the_signatures() -> None:
    forged = json.loads(sign(body(), [ALICE]))
    forged["signatures"][0]["sig"] = base64.b64encode(STRANGER.sign(b"anything")).decode()
    with pytest.raises(SignatureError):
        Candidate.decode(form.canonical(forged)).check_form()


def test_signatures_can_be_good_while_the_form_is_not() -> None:
    candidate = Candidate.decode(sign(body(), [ALICE]) + b"\n")
    candidate.check_signatures()
    with pytest.raises(Malformed, match="not in canonical form"):
        candidate.check_form()


def test_a_forger_pays_one_signature_check_however_many_signatures_he_adds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = [ALICE, BOB, CAROL]
    document = json.loads(sign(body([*own, STRANGER]), [*own, STRANGER]))
    trusted = max(document["signers"])
    document["signatures"][-1]["sig"] = base64.b64encode(bytes(64)).decode()
    assert document["signatures"][-1]["keyid"] == trusted
    candidate = Candidate.decode(form.canonical(document))
    asked: list[str] = []

    def verify(self: Any, _message: bytes, signature: bytes) -> bool:
        asked.append(self.keyid)
        return signature != bytes(64)

    monkeypatch.setattr("p2pboot.core.manifest.candidate.PublicKey.verify", verify)
    with pytest.raises(SignatureError, match=trusted):
        candidate.check_signatures(first={trusted})
    assert asked == [trusted]


def test_junk_around_genuine_signatures_is_not_put_into_canonical_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Canonical form is the most expensive step; a stranger can wrap what he likes around somebody's signature."""
    genuine = json.loads(form.MINIMAL)
    junk = form.canonical(genuine | {"junk": [[]] * 15_000})
    lengths: list[int] = []
    real = Candidate.check_canonical.__globals__["canonical"]

    def canonical(value: Any) -> bytes:
        raw: bytes = real(value)
        lengths.append(len(raw))
        return raw

    monkeypatch.setattr("p2pboot.core.manifest.candidate.canonical", canonical)
    monkeypatch.setattr("p2pboot.core.jsonform.canonical", canonical)
    with pytest.raises(Malformed, match="junk: is not part of what was signed"):
        Manifest.parse(junk)
    assert max(lengths) <= len(form.MINIMAL)


# --- detached ---


def test_detached_signature_of_any_signer_is_taken_and_named() -> None:
    found = manifest([ALICE, BOB])
    for key in (ALICE, BOB):
        text = sign_detached(found.raw, key)
        assert check_detached(found.raw, text, found.signers) == key.public.keyid
        assert check_detached(found.raw, f" {text}\r\n", found.signers) == key.public.keyid


def test_nothing_but_a_complete_manifest_is_signed_detached() -> None:
    """Else a signature could be had over bytes that mean something elsewhere."""
    waiting = unsigned(body([ALICE, BOB]))
    half = add_signature(waiting, ALICE)
    for raw in (b"", b"{}", bytes(32), waiting, half, manifest().raw + b"\n", b"p2pboot-yank/1\0{}"):
        with pytest.raises((Malformed, SignatureError)):
            sign_detached(raw, ALICE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "AAAA",
        "ü" * 88,
        base64.b64encode(bytes(64)).decode(),
        sign_detached(manifest().raw, STRANGER),
        base64.b64encode(ALICE.sign(manifest().raw + b"\n")).decode(),
        sign_detached(manifest().raw, ALICE).rstrip("="),
        sign_detached(manifest().raw, ALICE) + " " * 300,
        ALICE.sign(manifest().raw).hex(),
        json.loads(manifest().raw)["signatures"][0]["sig"],
    ],
)
def test_any_other_detached_signature_is_refused(text: str) -> None:
    found = manifest()
    with pytest.raises(SignatureError, match="detached"):
        check_detached(found.raw, text, found.signers)
