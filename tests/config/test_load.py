from __future__ import annotations

from pathlib import Path

import pytest

from p2pboot.config.load import Overrides, Provenance, load
from p2pboot.config.provider import host_name
from p2pboot.config.settings import SETTINGS
from p2pboot.core.identity import SecretKey
from p2pboot.errors import ConfigError, UsageError

DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001")
ALICE = SecretKey(bytes([1]) * 32).public
BOB = SecretKey(bytes([2]) * 32).public


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "p2pboot.toml"
    path.write_text(text)
    return path


def test_defaults_are_complete_and_marked_as_such() -> None:
    loaded = load()
    assert loaded.settings.network.listen == DEFAULT_LISTEN
    assert loaded.settings.network.listen_is_default
    assert loaded.settings.provider.name == host_name()
    assert loaded.settings.provider.expires_in_s == 30 * 86400
    assert loaded.settings.trust == ()
    assert set(loaded.provenance) == set(SETTINGS) | {"trust"}
    assert set(loaded.provenance.values()) == {Provenance.DEFAULT}


def test_command_line_wins_over_file_and_file_over_default(tmp_path: Path) -> None:
    path = write(tmp_path, '[provider]\nname = "file"\nchannel = "stable"\n[network]\nmdns = false\n')
    loaded = load(Overrides({"provider.name": "shell"}), path)
    assert loaded.settings.provider.name == "shell"
    assert loaded.settings.provider.channel == "stable"
    assert not loaded.settings.network.mdns
    assert loaded.provenance["provider.name"] is Provenance.COMMAND_LINE
    assert loaded.provenance["provider.channel"] is Provenance.FILE
    assert loaded.provenance["network.mdns"] is Provenance.FILE
    assert loaded.provenance["network.gossip"] is Provenance.DEFAULT


def test_relative_paths_of_the_file_start_at_the_file_and_those_of_the_shell_do_not(tmp_path: Path) -> None:
    path = write(tmp_path, '[identity]\nkey_path = "node.toml"\n[store]\nstate = "state"\n')
    settings = load(Overrides({"store.state": "here"}), path).settings
    assert settings.identity.key_path == tmp_path / "node.toml"
    assert settings.store.state == Path("here")


def test_explicit_listen_address_is_not_the_default_even_when_equal() -> None:
    settings = load(Overrides({"network.listen": DEFAULT_LISTEN})).settings
    assert not settings.network.listen_is_default


@pytest.mark.parametrize(
    ("said", "shell", "looks_around"),
    [
        ("", {}, False),
        ("mdns = true\n", {}, True),
        ("", {"network.mdns": True}, True),
        ("mdns = false\n", {}, False),
    ],
)
def test_in_a_private_mesh_mdns_is_off_unless_somebody_asks_for_it(
    tmp_path: Path, said: str, shell: dict[str, object], looks_around: bool
) -> None:
    path = write(tmp_path, f'[network]\nswarm_key = "swarm.key"\n{said}')
    loaded = load(Overrides(shell), path)
    assert loaded.settings.network.mdns is looks_around
    assert loaded.settings.network.swarm_key_path == tmp_path / "swarm.key"
    assert load(Overrides(shell)).settings.network.mdns


@pytest.mark.parametrize(
    ("text", "named", "suggestion"),
    [
        ('[network]\nlisten_on = ["x"]\n', "network.listen_on", "listen"),
        ('[provider]\nchanel = "stable"\n', "provider.chanel", "channel"),
        ("[netwrok]\nmdns = true\n", "netwrok", "network"),
        ("[identity]\nquota = 1\n", "identity.quota", "store.quota"),
        ("mdns = true\n", "mdns", "network.mdns"),
        ('[[trust]]\nkey = ["x"]\n', "trust.key", "keys"),
    ],
)
def test_unknown_key_is_an_error_with_a_suggestion(
    tmp_path: Path, text: str, named: str, suggestion: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(config_path=path)
    assert str(path) in caught.value.message
    assert caught.value.message.endswith(f"unknown key {named}")
    assert caught.value.remedy == f"did you mean {suggestion}?"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[network]\nmdns = "yes"\n', "network.mdns"),
        ('[network]\nlisten = "/ip4/1.2.3.4/tcp/1"\n', "network.listen"),
        ('[network]\nbootstrap = ["junk"]\n', "network.bootstrap"),
        ("[provider]\nname = 7\n", "provider.name"),
        ('[provider]\narch = "mips"\n', "provider.arch"),
        ('[provider]\nexpires_in = "soon"\n', "provider.expires_in"),
        ("[provider]\nversion = 2025-11-26\n", "provider.version"),
        ('[store]\nquota = "lots"\n', "store.quota"),
        ("network = 1\n", "network must be a table"),
        ("trust = 1\n", "trust must be an array of tables"),
        ("[[trust]]\nthreshold = 1\n", "[[trust]] number 1: keys is missing"),
        ('[[trust]]\nkeys = ["xyz"]\n', "[[trust]] number 1: keys"),
        (f'[[trust]]\nkeys = ["{ALICE.keyid}"]\nthreshold = 2\n', "[[trust]] number 1: trust: 2 signatures"),
        (f'[[trust]]\nkeys = ["{ALICE.keyid}"]\nthreshold = true\n', "[[trust]] number 1: threshold"),
        (f'[[trust]]\nkeys = ["{ALICE.keyid}"]\nmax_lifetime = "0s"\n', "[[trust]] number 1: max_lifetime"),
        (f'[[trust]]\nkeys = ["{ALICE.keyid}"]\nchannels = []\n', "[[trust]] number 1: channels"),
    ],
)
def test_wrong_value_names_file_and_key(tmp_path: Path, text: str, named: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(config_path=path)
    assert str(path) in caught.value.message
    assert named in caught.value.message


@pytest.mark.parametrize("raw", [b"[network\n", b"a = 1\na = 2\n", b"\xff\xfe", b"a = " + b"[" * 5000])
def test_file_that_is_no_toml_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match="TOML"):
        load(config_path=path)


def test_missing_file_and_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file"):
        load(config_path=tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="is a directory"):
        load(config_path=tmp_path)


def test_trust_of_the_file_takes_every_form_of_key(tmp_path: Path) -> None:
    text = f'[[trust]]\nkeys = ["{ALICE.hex}", "{BOB.peer_id}"]\nthreshold = 2\narchs = ["aarch64"]\nname="a"'
    (publisher,) = load(config_path=write(tmp_path, text)).settings.trust
    assert publisher.keys == tuple(sorted([ALICE.keyid, BOB.keyid]))
    assert publisher.threshold == 2
    assert publisher.archs == ("arm64",)
    assert publisher.channels is None
    assert publisher.name == "a"


def test_trust_of_the_command_line_replaces_that_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, f'[[trust]]\nkeys = ["{ALICE.keyid}"]\n')
    loaded = load(Overrides({}, trust=(BOB.keyid,)), path)
    assert [publisher.keys for publisher in loaded.settings.trust] == [(BOB.keyid,)]
    assert loaded.provenance["trust"] is Provenance.COMMAND_LINE


def test_lifetime_is_each_publishers_unless_the_command_line_says_one_for_all(tmp_path: Path) -> None:
    one, other = f'keys = ["{ALICE.keyid}"]\nchannels = ["a"]', f'keys = ["{BOB.keyid}"]\nchannels = ["b"]'
    path = write(tmp_path, f'[[trust]]\n{one}\nmax_lifetime = "2w"\n[[trust]]\n{other}\n')
    day_s = 86_400
    said = [publisher.max_lifetime_s for publisher in load(config_path=path).settings.trust]
    assert said == [14 * day_s, 400 * day_s]
    loaded = load(Overrides({}, max_lifetime="500d"), path)
    assert [publisher.max_lifetime_s for publisher in loaded.settings.trust] == [500 * day_s] * 2


def test_two_publishers_for_one_channel_are_refused_with_the_files_name(tmp_path: Path) -> None:
    path = write(tmp_path, f'[[trust]]\nkeys = ["{ALICE.keyid}"]\n[[trust]]\nkeys = ["{BOB.keyid}"]\n')
    with pytest.raises(ConfigError, match=str(path)):
        load(config_path=path)


@pytest.mark.parametrize(
    ("overrides", "option"),
    [
        (Overrides({"network.listen": ("junk",)}), "--listen"),
        (Overrides({"network.max_upload": "fast"}), "--max-upload"),
        (Overrides({"provider.expires_in": "soon"}), "--expires-in"),
        (Overrides({"provider.channel": "../x"}), "--channel"),
        (Overrides({}, trust=("xyz",)), "--trust"),
        (Overrides({}, trust=(ALICE.keyid,), threshold=2), "--threshold"),
        (Overrides({}, threshold=1), "--threshold"),
        (Overrides({}, max_lifetime="for ever"), "--max-lifetime"),
        (Overrides({}, trust=(ALICE.keyid, ALICE.peer_id), threshold=2), "--threshold"),
    ],
)
def test_wrong_value_of_the_command_line_names_the_option(overrides: Overrides, option: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(overrides)
    assert caught.value.message.startswith(option)


# the source system's names at the top level


def test_the_source_systems_names_are_taken_at_the_top_level(tmp_path: Path) -> None:
    text = 'snapshot_dir = "data/snapshots"\ntimetoke_snapshot_key_path = "/keys/t.toml"\n[provider]\nname = "x"\n'
    loaded = load(config_path=write(tmp_path, text))
    assert loaded.settings.snapshots.directory == tmp_path / "data/snapshots"
    assert loaded.settings.snapshots.key_path == Path("/keys/t.toml")
    assert loaded.provenance["snapshots.directory"] is Provenance.FILE


def test_the_command_line_wins_over_the_source_systems_names(tmp_path: Path) -> None:
    path = write(tmp_path, 'snapshot_dir = "here"\n')
    loaded = load(Overrides({"snapshots.directory": "there"}), path)
    assert loaded.settings.snapshots.directory == Path("there")


def test_one_setting_under_two_names_must_have_one_value(tmp_path: Path) -> None:
    for other, message in [("a", None), ("./a", None), ("b", "snapshots.directory .* snapshot_dir")]:
        path = write(tmp_path, f'snapshot_dir = "{other}"\n[snapshots]\ndirectory = "a"\n')
        if message is None:
            assert load(config_path=path).settings.snapshots.directory == tmp_path / "a"
            continue
        with pytest.raises(ConfigError, match=message) as caught:
            load(config_path=path)
        assert "p2pboot.toml" in caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("snapshot_dir = 7\n", "snapshot_dir: must be"),
        ("timetoke_snapshot_key_path = []\n", "timetoke_snapshot_key_path: must be"),
        ('[snapshot_dir]\nx = "y"\n', "snapshot_dir: must be"),
        ('snapshot_dirs = "x"\n', "unknown key snapshot_dirs"),
        ('[snapshots]\nsnapshot_dir = "x"\n', "unknown key snapshots.snapshot_dir"),
    ],
)
def test_a_wrong_value_or_place_of_such_a_name_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(config_path=write(tmp_path, text))
