from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from p2pboot.config.check import Flaw, check_file
from p2pboot.config.load import complaints, load, parse_file
from p2pboot.core.identity import SecretKey
from p2pboot.core.trustdocs.chain import Anchor, begin
from p2pboot.errors import ConfigError
from p2pboot.store.keyfiles import generate_key
from p2pboot.store.store import Store
from p2pboot.testing.trustdocs import root_body, signed_root

ALICE = SecretKey(bytes([1]) * 32).public


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "p2pboot.toml"
    path.write_text(text)
    return path


def flaws(tmp_path: Path, text: str) -> dict[str, Flaw]:
    return {flaw.key: flaw for flaw in check_file(write(tmp_path, text)).flaws}


def test_all_that_is_wrong_is_told_in_one_go_with_its_line(tmp_path: Path) -> None:
    found = flaws(
        tmp_path,
        '[network]\nlistn = []\nbootstrap = "x"\n\n[provider]\nexpires_in = "soon"\n'
        f'[[trust]]\nkeys = ["{ALICE.keyid}"]\nthreshold = 2\n[[trust]]\nkeys = ["12"]\nmax_pairs = 0\n[extra]\n',
    )
    assert {key: (flaw.severity, flaw.line) for key, flaw in found.items()} == {
        "network.listn": ("error", 2),
        "network.bootstrap": ("error", 3),
        "provider.expires_in": ("error", 6),
        "trust[1]": ("error", 7),
        "trust[2].keys": ("error", 11),
        "trust[2].max_pairs": ("error", 12),
        "extra": ("error", 13),
    }
    assert found["network.listn"].remedy == "did you mean listen?"


@pytest.mark.parametrize(
    "text",
    [
        "network = 3\n",
        "trust = 3\n",
        "trust = [3]\n",
        "snapshot_dir = 3\n[snapshots]\ndirectory = 4\n",
        'snapshot_dir = "/a"\n[snapshots]\ndirectory = "/b"\n',
        '[snapshots]\nthreshold = 2\ntrust = ["12"]\n',
        "[[trust]]\n",
        "[gateway]\nhttp = 80\n",
    ],
)
def test_what_loading_refuses_is_an_error_here(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load(config_path=path)
    messages = [error.message for _, error in complaints(parse_file(path, text), path)]
    assert refused.value.message in messages
    assert not check_file(path).ok


def test_what_several_values_are_wrong_in_together_is_found_too(tmp_path: Path) -> None:
    found = flaws(tmp_path, f'[snapshots]\nthreshold = 2\ntrust = ["{ALICE.keyid}"]\n')
    assert [flaw.severity for flaw in found.values()] == ["error"]


@pytest.mark.parametrize(("text", "line"), [("[network\n", 1), ("a = 1\na = 2\n", 2)])
def test_no_toml_is_told_with_the_line(tmp_path: Path, text: str, line: int) -> None:
    (only,) = check_file(write(tmp_path, text)).flaws
    assert (only.severity, only.line) == ("error", line)


def test_a_missing_file_and_a_directory_are_what_is_wrong(tmp_path: Path) -> None:
    assert "no configuration file" in check_file(tmp_path / "no.toml").flaws[0].message
    assert "directory" in check_file(tmp_path).flaws[0].message


def test_what_it_names_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "empty").mkdir()
    found = flaws(
        tmp_path,
        '[identity]\nkey_path = "file"\nsigning_key_path = "no.toml"\n[network]\nswarm_key = "no.key"\n'
        '[provider]\ndirectory = "empty"\n[snapshots]\ndirectory = "no"\n[store]\nstate = "file/state"\n',
    )
    assert {key: (flaw.severity, flaw.line) for key, flaw in found.items()} == {
        "identity.key_path": ("error", 2),
        "identity.signing_key_path": ("error", 3),
        "network.swarm_key": ("error", 5),
        "provider.directory": ("warning", 7),
        "snapshots.directory": ("error", 9),
        "store.state": ("error", 11),
    }


def test_a_good_file_is_fine_and_nothing_is_made(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "vmlinuz").write_bytes(b"kernel")
    generate_key(tmp_path / "signing.toml")
    text = (
        '[identity]\nkey_path = "keys/node.toml"\nsigning_key_path = "signing.toml"\n'
        '[provider]\ndirectory = "images"\n[store]\nstate = "state"\n'
    )
    path = write(tmp_path, text)
    before = sorted((str(one), one.stat().st_mtime_ns) for one in tmp_path.rglob("*"))
    checked = check_file(path)
    assert checked.ok
    assert [(flaw.severity, flaw.key) for flaw in checked.flaws] == [("note", "identity.key_path")]
    assert sorted((str(one), one.stat().st_mtime_ns) for one in tmp_path.rglob("*")) == before
    assert checked.to_json()["publishes"] == str(images)


def test_a_file_that_gives_a_node_nothing_to_do_is_doubted(tmp_path: Path) -> None:
    (only,) = check_file(write(tmp_path, "")).flaws
    assert (only.severity, only.key) == ("warning", "")
    found = flaws(tmp_path, f'[[trust]]\nkeys = ["{ALICE.keyid}"]\n')
    assert found["trust"].severity == "warning"
    assert not flaws(tmp_path, f'[provider]\nchannel = "stable"\n[[trust]]\nkeys = ["{ALICE.keyid}"]\n')


def test_a_secret_that_others_may_read_is_a_warning(tmp_path: Path) -> None:
    generate_key(tmp_path / "node.toml")
    (tmp_path / "node.toml").chmod(0o644)
    found = flaws(tmp_path, f'[identity]\nkey_path = "node.toml"\n[[trust]]\nkeys = ["{ALICE.keyid}"]\n')
    assert found["identity.key_path"].severity == "warning"
    assert "chmod 600" in (found["identity.key_path"].remedy or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_may_check_the_file_of_a_node_that_runs_as_another_user(tmp_path: Path) -> None:
    generate_key(tmp_path / "node.toml")
    os.chown(tmp_path / "node.toml", 12345, 12345)
    found = flaws(tmp_path, '[identity]\nkey_path = "node.toml"\n')
    assert found["identity.key_path"].severity == "note"


def test_ports_of_the_service_manager_and_any_free_one_are_nobodys(tmp_path: Path) -> None:
    path = write(tmp_path, '[gateway]\nhttp = "systemd:http"\n[network]\nlisten = ["/ip4/0.0.0.0/tcp/0"]\n')
    checked = check_file(path)
    assert checked.ok
    assert checked.ports() == []
    path = write(tmp_path, '[gateway]\nhttp = "[::]:8080"\n[network]\nlisten = ["/ip6/::/tcp/4001"]\n')
    assert check_file(path).ports() == [("network.listen", 4001), ("gateway.http", 8080)]


def test_a_key_of_the_node_that_is_a_root_key_is_an_error(tmp_path: Path) -> None:
    key, other = generate_key(tmp_path / "key"), SecretKey(bytes([1]) * 32)
    root = signed_root(root_body(keys=(key, other)), (key, other))
    (tmp_path / "root.json").write_bytes(root.raw)
    tables = (f'[identity]\nkey_path = "{tmp_path}/key"', f'[[trust]]\nroot = "{tmp_path}/root.json"')
    (only,) = check_file(write(tmp_path, "\n".join(tables))).flaws
    assert only.severity == "error"
    assert f"{key.public.keyid} is a root key of 'test fleet'" in only.message


def test_a_key_that_the_root_of_the_state_names_is_an_error_too(tmp_path: Path) -> None:
    key = generate_key(tmp_path / "key")
    root = signed_root(root_body(keys=(key,), threshold=1), (key,))
    with Store.open(tmp_path / "state") as store:
        chain = begin(Anchor.of_root(root))
        assert chain is not None
        store.documents.put_chain(Anchor(root.digest), chain)
    text = f'[identity]\nkey_path = "{tmp_path}/key"\n[[trust]]\nroot = "sha256:{root.digest}"\n'
    assert check_file(write(tmp_path, text)).flaws == ()
    (only,) = check_file(write(tmp_path, f'{text}[store]\nstate = "{tmp_path}/state"')).flaws
    assert "is a root key of 'test fleet'" in only.message


@pytest.mark.parametrize("second", ['"root.json"', '"sha256:{digest}"'])
@pytest.mark.parametrize("first", ['"root.json"', '"sha256:{digest}"'])
def test_one_root_is_not_believed_twice_for_the_same(tmp_path: Path, first: str, second: str) -> None:
    root = signed_root(root_body())
    (tmp_path / "root.json").write_bytes(root.raw)
    one, other = (f"[[trust]]\nroot = {said.format(digest=root.digest)}\n" for said in (first, second))
    (only,) = check_file(write(tmp_path, one + other)).flaws
    assert (only.severity, only.key) == ("error", "trust")
    assert "twice" in only.message or "two publishers are trusted for the same" in only.message
    apart = (f'{one}channels = ["stable"]\n', f'{other}channels = ["testing"]\n')
    assert not check_file(write(tmp_path, "".join(apart))).flaws


def test_of_a_root_only_part_is_followed(tmp_path: Path) -> None:
    body = root_body()
    everything = replace(body, publish=(replace(body.publish[0], channels=None, archs=None),))
    (tmp_path / "root.json").write_bytes(signed_root(everything).raw)
    table = '[[trust]]\nroot = "root.json"\nchannels = ["stable"]\narchs = ["arm64"]'
    settings = check_file(write(tmp_path, table)).settings
    assert settings is not None
    assert settings.followed() == (("stable", "arm64"),)


def test_what_a_root_says_itself_is_not_said_beside_it(tmp_path: Path) -> None:
    (tmp_path / "root.json").write_bytes(signed_root(root_body()).raw)
    (only,) = check_file(write(tmp_path, '[[trust]]\nroot = "root.json"\nthreshold = 2')).flaws
    assert "threshold: not beside root" in only.message
    assert "key id" not in only.message
