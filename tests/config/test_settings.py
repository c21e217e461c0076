from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from p2pboot.config.load import Overrides, load
from p2pboot.config.reload import diff_settings
from p2pboot.config.settings import SETTINGS, for_mirror, with_values
from p2pboot.config.show import as_document, as_toml
from p2pboot.config.trust import PUBLISHER
from p2pboot.core.identity import SecretKey
from p2pboot.errors import UsageError
from p2pboot.testing.trustdocs import root_body, signed_root
from p2pboot.transport.bandwidth import UNLIMITED, Rates

ALICE = SecretKey(bytes([1]) * 32).public
BOB = SecretKey(bytes([2]) * 32).public
DOCS = Path(__file__).parents[2] / "docs"
EVERYTHING = Overrides(
    {
        "identity.key_path": "k.toml",
        "identity.signing_key_path": "s.toml",
        "provider.name": 'quote " backslash \\ ü',
        "provider.channel": "stable",
        "provider.arch": "arm64",
        "provider.version": "2025.11",
        "provider.cmdline": "console=ttyS0",
        "provider.expires_in": "12h",
        "provider.piece_length": "256KiB",
        "provider.directory": "images",
        "network.listen": ("/ip4/127.0.0.1/tcp/0",),
        "network.bootstrap": (f"/ip4/192.0.2.1/tcp/4001/p2p/{ALICE.peer_id}",),
        "network.mdns": False,
        "network.swarm_key": "swarm.key",
        "network.allow_peers": (ALICE.peer_id,),
        "network.site": "rack-7",
        "network.gossip": False,
        "network.sync": False,
        "network.max_upload": "2MB/s",
        "network.max_download": "3MB/s",
        "network.max_upload_per_peer": "4KiB/s",
        "network.max_download_per_peer": 5,
        "network.announce_interval": "1m",
        "network.sync_interval": "30s",
        "store.state": "state",
        "store.quota": "20GB",
        "store.keep": 1,
        "store.max_artifact": "1GiB",
        "gateway.http": "127.0.0.1:8080",
        "gateway.advertise_http": ("http://192.0.2.7:8080",),
        "gateway.public": True,
        "gateway.trusted_proxies": ("192.0.2.10/32", "fd00::/8"),
        "snapshots.directory": "snapshots",
        "snapshots.key_path": "snapshot.toml",
        "snapshots.trust": (ALICE.keyid, BOB.keyid),
        "snapshots.threshold": 2,
        "snapshots.require_signatures": True,
    },
    trust=(ALICE.keyid,),
)


NO_QUOTA = Overrides({"store.quota": "unlimited"})
"""Against the default, which has to be shown."""


@pytest.mark.parametrize("overrides", [Overrides({}), EVERYTHING, NO_QUOTA])
def test_what_config_show_prints_loads_as_the_same_settings(tmp_path: Path, overrides: Overrides) -> None:
    shown = as_toml(load(overrides))
    path = tmp_path / "shown.toml"
    path.write_text(shown)
    again = load(config_path=path)
    assert tomllib.loads(as_toml(again)) == tomllib.loads(shown)
    assert again.settings.store.quota_bytes == load(overrides).settings.store.quota_bytes


def test_every_value_is_shown_with_its_source(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[provider]\nname = "box"\n')
    loaded = load(Overrides({"network.mdns": False}), path)
    text = as_toml(loaded)
    shown = {line.split("  ")[0]: line for line in text.splitlines()}
    assert shown['name = "box"'].endswith(f"# file {path}")
    assert shown["mdns = false"].endswith("# command line")
    assert shown["sync = true"].endswith("# default")
    document = as_document(loaded)
    assert document["config_file"] == str(path)
    assert document["provider"]["name"] == {"value": "box", "source": "file"}  # type: ignore[index]
    assert document["network"]["mdns"] == {"value": False, "source": "command line"}  # type: ignore[index]
    assert document["trust"] == {"value": [], "source": "default"}


def test_reload_tells_what_is_applied_from_what_needs_a_restart() -> None:
    old = load(EVERYTHING).settings
    new = with_values(
        load().settings, {dotted: f"another {dotted}" for dotted in SETTINGS if dotted != "snapshots.trust"}
    )
    applied, needs_restart = diff_settings(old, new)
    assert "trust" in applied
    assert {"provider.cmdline", "provider.name", "network.max_upload", "store.quota"} <= set(applied)
    rates = {f"network.max_{way}load{whose}" for way in ("up", "down") for whose in ("", "_per_peer")}
    assert rates <= set(applied)
    assert {"network.listen", "identity.key_path", "store.state", "network.bootstrap"} <= set(needs_restart)
    assert len(applied) + len(needs_restart) == len(SETTINGS) + 1
    assert diff_settings(new, new) == ((), ())


def test_mirror_follows_the_given_channel_and_arch() -> None:
    overrides = Overrides({"provider.channel": "stable", "provider.arch": "aarch64"}, trust=(ALICE.keyid,))
    mirror = for_mirror(load(overrides).settings, channel="stable", arch="aarch64")
    assert mirror.followed() == (("stable", "arm64"),)


def test_mirror_follows_all_that_the_file_names_unless_narrowed(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'[[trust]]\nkeys = ["{ALICE.keyid}"]\nchannels = ["stable", "testing"]\n')
    settings = load(config_path=path).settings
    assert for_mirror(settings, channel=None, arch=None).followed() == (
        ("stable", "arm64"),
        ("stable", "riscv64"),
        ("stable", "x86_64"),
        ("testing", "arm64"),
        ("testing", "riscv64"),
        ("testing", "x86_64"),
    )
    assert for_mirror(settings, channel="testing", arch="arm64").followed() == (("testing", "arm64"),)
    with pytest.raises(UsageError, match="nothing to mirror"):
        for_mirror(settings, channel="nightly", arch="arm64")


def test_mirror_without_trust_or_channel_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no trusted key") as caught:
        for_mirror(load().settings, channel="stable", arch="arm64")
    assert "--trust" in (caught.value.remedy or "")
    with pytest.raises(UsageError, match="nothing to mirror"):
        for_mirror(load(Overrides({}, trust=(ALICE.keyid,))).settings, channel=None, arch=None)


def test_example_file_loads_and_names_every_key() -> None:
    path = DOCS / "p2pboot.example.toml"
    document = tomllib.loads(path.read_text())
    load(config_path=path)
    assert {f"{table}.{name}" for table in document if table != "trust" for name in document[table]} == set(
        SETTINGS
    )
    assert set().union(*document["trust"]) == set(PUBLISHER)


def test_documentation_describes_every_key_and_flag() -> None:
    text = (DOCS / "configuration.md").read_text()
    missing = [
        key.dotted for key in SETTINGS.values() if f"`{key.name}`" not in text or f"`{key.option}" not in text
    ]
    assert missing == []
    assert [name for name in PUBLISHER if f"`{name}`" not in text] == []


def test_limits_of_bandwidth_are_each_its_own() -> None:
    assert load(EVERYTHING).settings.network.rates == Rates(
        upload=2_000_000, download=3_000_000, upload_per_peer=4096, download_per_peer=5
    )
    assert load().settings.network.rates == UNLIMITED


def test_a_root_is_shown_as_it_was_given(tmp_path: Path) -> None:
    root = signed_root(root_body())
    (tmp_path / "root.json").write_bytes(root.raw)
    path = tmp_path / "p2pboot.toml"
    for given, shown in (
        ("root.json", str(tmp_path / "root.json")),
        (f"sha256:{root.digest}", f"sha256:{root.digest}"),
    ):
        path.write_text(f'[[trust]]\nroot = "{given}"\n')
        (table,) = as_document(load(Overrides({}), path))["trust"]["value"]  # type: ignore[index]
        assert table["root"] == shown
