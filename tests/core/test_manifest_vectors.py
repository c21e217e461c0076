"""Every vector file is judged as its index says, and is what its script makes."""

import base64
import json
from pathlib import Path

import pytest

from p2pboot.core.identity import SecretKey
from p2pboot.core.manifest import (
    MAX_MANIFEST,
    Artifact,
    Manifest,
    add_signature,
    check_detached,
    compose,
    missing_signers,
    sign,
    sign_detached,
    unsigned,
)
from p2pboot.core.timestamps import format_time
from p2pboot.errors import Malformed, P2PBootError, SignatureError
from tests.core.phase_verify import PhaseRejectsError, phase_verify
from tests.vectors.manifest import form, make

HERE = Path(make.__file__).parent
INDEX = json.loads((HERE / "index.json").read_bytes())
KEYS = {facts["keyid"]: SecretKey(bytes.fromhex(facts["seed"])) for facts in INDEX["keys"].values()}
REASONS: dict[str, type[P2PBootError]] = {"malformed": Malformed, "signature": SignatureError}
COMPOSABLE = ("example", "minimal", "two-signers", "dtbs", "separate-key")


def read(name: str) -> bytes:
    return (HERE / f"{name}.json").read_bytes()


def test_the_files_are_what_the_script_makes() -> None:
    made = make.files()
    there = {str(path.relative_to(HERE)): path.read_bytes() for path in HERE.glob("*/*.json*")}
    there["index.json"] = (HERE / "index.json").read_bytes()
    assert sorted(there) == sorted(made)
    assert [name for name in made if made[name] != there[name]] == []


@pytest.mark.parametrize("name", INDEX["good"])
def test_good_manifest_is_taken_with_the_expected_identity(name: str) -> None:
    raw = read(f"good/{name}")
    manifest = Manifest.parse(raw)
    assert manifest.raw == raw
    assert manifest.digest == INDEX["good"][name]["digest"]
    assert len(raw) == INDEX["good"][name]["size"] <= MAX_MANIFEST
    assert check_detached(raw, (HERE / f"good/{name}.json.sig").read_text(), manifest.signers)


@pytest.mark.parametrize("name", INDEX["good"])
def test_phase_takes_every_good_manifest_for_every_signer(name: str) -> None:
    manifest = Manifest.parse(read(f"good/{name}"))
    for keyid in manifest.signers:
        signed = phase_verify(manifest.raw, bytes.fromhex(keyid.removeprefix("ed25519:")))
        assert signed["manifest_version"] == manifest.manifest_version
        assert signed["expires_at"] == format_time(manifest.expires_at)
    with pytest.raises(PhaseRejectsError):
        phase_verify(manifest.raw, bytes.fromhex(INDEX["keys"]["STRANGER"]["keyid"][8:]))


@pytest.mark.parametrize("name", INDEX["bad"])
def test_bad_manifest_is_refused_for_its_reason(name: str) -> None:
    expected = INDEX["bad"][name]
    kind = REASONS[expected["reason"]]
    with pytest.raises(kind) as caught:
        Manifest.parse((HERE / f"bad/{name}.json").read_bytes())
    assert expected["says"] in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("name", COMPOSABLE)
def test_composing_and_signing_gives_the_very_bytes_of_the_vector(name: str) -> None:
    wanted = Manifest.parse(read(f"good/{name}"))
    artifacts = [
        Artifact.describe(
            one.key,
            channel=wanted.channel,
            arch=wanted.arch,
            sha256=one.sha256,
            size=one.size,
            urls=one.urls,
            piece_length=one.piece_length,
            table_digest=one.table_digest,
        )
        for one in reversed(list(wanted.artifacts.values()))
    ]
    body = compose(
        version=wanted.version,
        manifest_version=wanted.manifest_version,
        channel=wanted.channel,
        arch=wanted.arch,
        created_at=wanted.created_at,
        expires_at=wanted.expires_at,
        artifacts=artifacts,
        provider_peer_id=wanted.provider_peer_id,
        provider_name=wanted.provider_name,
        signers=reversed(wanted.signers),
        cmdline=wanted.cmdline,
    )
    assert body.digest == wanted.digest
    assert sign(body, [KEYS[keyid] for keyid in wanted.signers]) == wanted.raw


def test_the_example_says_what_a_publisher_needs_to_say() -> None:
    manifest = Manifest.parse(read("good/example"))
    assert (manifest.version, manifest.channel, manifest.arch) == ("2025.11.26", "stable", "arm64")
    assert list(manifest.artifacts) == ["initramfs", "kernel", "rootfs"]
    kernel = manifest.artifacts["kernel"]
    assert (kernel.size, kernel.path) == (8_388_608, "/stable/arm64/kernel")
    assert kernel.urls == (f"http://192.0.2.7:8080/blobs/{kernel.sha256}",)
    assert kernel.cid.startswith("bafkrei")
    assert manifest.provider_peer_id == KEYS[manifest.signers[0]].public.peer_id


@pytest.mark.parametrize("name", INDEX["waiting"])
def test_waiting_document_names_who_has_to_sign_and_becomes_whole(name: str) -> None:
    raw = read(f"waiting/{name}")
    missing = INDEX["waiting"][name]["missing"]
    assert list(missing_signers(raw)) == missing
    for keyid in reversed(missing):
        raw = add_signature(raw, KEYS[keyid])
    assert missing_signers(raw) == ()
    assert len(Manifest.parse(raw).signers) == 2


def test_signing_keeps_members_that_the_format_does_not_name() -> None:
    document = json.loads(read("good/unknown-members"))
    document["signatures"] = []
    assert add_signature(form.canonical(document), KEYS[INDEX["keys"]["A"]["keyid"]]) == read(
        "good/unknown-members"
    )


def test_unsigned_document_is_the_vector() -> None:
    raw = read("waiting/unsigned")
    manifest = Manifest.parse(add_signature(add_signature(raw, KEYS[form.A.keyid]), KEYS[form.B.keyid]))
    body = compose(
        **{
            name: getattr(manifest, name)
            for name in (
                "version",
                "manifest_version",
                "channel",
                "arch",
                "created_at",
                "expires_at",
                "provider_peer_id",
                "provider_name",
                "signers",
                "cmdline",
            )
        },
        artifacts=manifest.artifacts.values(),
    )
    assert unsigned(body) == raw


def test_detached_signature_is_the_vector() -> None:
    raw = read("good/minimal")
    text = (HERE / "good/minimal.json.sig").read_text()
    assert sign_detached(raw, KEYS[form.A.keyid]) == text.strip()
    assert len(base64.b64decode(text)) == 64
