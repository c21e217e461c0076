"""A node as a process: what stops it at the start, what a signal does to it."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pboot.config.network import NetworkSettings
from p2pboot.config.reload import live_part
from p2pboot.config.settings import SETTINGS, NodeSettings, with_values
from p2pboot.errors import (
    ArtifactError,
    ConfigError,
    ExitStatus,
    MachineError,
    P2PBootError,
    StoreError,
    UsageError,
)
from p2pboot.node import run as run_module
from p2pboot.node.run import run_node
from p2pboot.store.keyfiles import generate_key, generate_swarm_key
from p2pboot.store.store import Store
from p2pboot.testing.processes import mesh_in
from p2pboot.testing.waiting import wait_until
from p2pboot.transport.bandwidth import Bandwidth
from p2pboot.transport.interfaces import Interfaces, Listing, OwnAddress, Reach
from tests.integration.images import write_artifacts
from tests.node.world import settings_of, trusting, write_tree


def run(settings: NodeSettings, lines: list[str] | None = None) -> None:
    lines = [] if lines is None else lines
    run_node(settings, reload=lambda: settings, announce_line=lines.append, wall=time.time)


def test_a_second_node_on_one_state_directory_names_the_first(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "node")
    settings.store.state.mkdir(parents=True)
    with Store.open(settings.store.state) as store:
        store.lock()
        with pytest.raises(MachineError, match=f"process {os.getpid()}") as caught:
            run(settings)
    assert caught.value.exit_status is ExitStatus.MACHINE
    assert not (settings.store.state / "control.sock").exists()


def test_a_port_in_use_is_the_machines_fault(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = settings_of(tmp_path, "node", network={"listen": (f"/ip4/127.0.0.1/tcp/{port}",)})
        settings.store.state.parent.mkdir()
        with pytest.raises(MachineError, match=str(port)) as caught:
            run(settings)
    assert caught.value.exit_status is ExitStatus.MACHINE
    assert caught.value.remedy


def test_a_directory_that_can_not_be_published_is_said_before_anything_listens(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    settings = settings_of(tmp_path, "node", provider={"directory": tmp_path / "empty"})
    with pytest.raises(ArtifactError, match="nothing to publish"):
        run(settings)
    assert not settings.store.state.exists()
    assert not settings.identity.key_path.exists()


def half_filled(directory: Path) -> Path:
    leaf = directory / "testing" / "x86_64"
    leaf.mkdir(parents=True)
    (leaf / "vmlinuz").write_bytes(b"the initramfs follows")
    return directory


def of_directory(tmp_path: Path, directory: Path, **changes: Any) -> NodeSettings:
    return settings_of(tmp_path, "node", provider={"directory": directory}, **changes)


@pytest.mark.parametrize("wrong", ["half filled", "missing", "empty"])
def test_a_node_with_nothing_to_do_does_not_start(tmp_path: Path, wrong: str) -> None:
    directory = tmp_path / "images"
    if wrong == "half filled":
        half_filled(directory)
    elif wrong == "empty":
        directory.mkdir()
    settings = of_directory(tmp_path, directory)
    with pytest.raises(ArtifactError):
        run_module._check_directory(settings)
    assert not settings.store.state.exists()


def test_one_pair_that_can_be_published_is_enough(tmp_path: Path) -> None:
    write_tree(half_filled(tmp_path / "images"), "image")
    run_module._check_directory(of_directory(tmp_path, tmp_path / "images"))


@pytest.mark.parametrize("wrong", ["half filled", "missing"])
@pytest.mark.parametrize("work", ["published before", "mirrors", "serves snapshots"])
def test_a_node_with_something_else_to_do_starts(tmp_path: Path, wrong: str, work: str) -> None:
    directory = tmp_path / "images"
    if wrong == "half filled":
        half_filled(directory)
    changes: dict[str, Any] = {}
    if work == "mirrors":
        changes = {"trust": trusting("other")}
    elif work == "serves snapshots":
        changes = {"snapshots": {"directory": tmp_path / "snapshots"}}
    settings = of_directory(tmp_path, directory, **changes)
    if work == "published before":
        settings.store.state.mkdir(parents=True)
        with Store.open(settings.store.state) as store:
            with pytest.raises(ArtifactError):  # a state alone is no reason
                run_module._check_directory(settings)
            store.publications.record(
                b"", signers=["k"], channel="c", arch="a", manifest_version=1, digest="d"
            )
    run_module._check_directory(settings)


def test_a_channel_that_is_none_is_refused_whatever_else_there_is_to_do(tmp_path: Path) -> None:
    provider = {"directory": half_filled(tmp_path / "images"), "channel": "no channel", "arch": "x86_64"}
    settings = settings_of(tmp_path, "node", provider=provider, trust=trusting("other"))
    with pytest.raises(UsageError, match="no channel"):
        run_module._check_directory(settings)


def test_a_machine_without_an_address_is_told_so(tmp_path: Path) -> None:
    class Nowhere:
        best = None

    with pytest.raises(MachineError, match="no address"):
        run_module._dialable(Nowhere())  # type: ignore[arg-type]


class FakeNode:
    def __init__(self, error: P2PBootError | None = None) -> None:
        self.applied: list[NodeSettings] = []
        self._error = error

    async def apply(self, settings: NodeSettings) -> None:
        if self._error is not None:
            raise self._error
        self.applied.append(settings)


def current(old: NodeSettings, reload: Callable[[], NodeSettings]) -> Any:
    return run_module._Current(old, reload)


async def test_a_reload_applies_what_it_can_and_says_each_time_what_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old = settings_of(tmp_path, "node")
    new = replace(old, trust=trusting("other"), network=replace(old.network, gossip=False, max_upload=1000))
    state, node = current(old, lambda: new), FakeNode()
    await state.begin(node)
    assert not node.applied
    await state.reread()
    assert node.applied == [new]
    assert "network.max_upload" in caplog.text
    assert "trust" in caplog.text
    assert "need a restart: network.gossip" in caplog.text
    assert state.settings == replace(old, trust=new.trust, network=replace(old.network, max_upload=1000))
    caplog.clear()
    await state.reread()
    assert "changed: nothing" in caplog.text
    assert "need a restart: network.gossip" in caplog.text  # as long as it does


async def test_a_reload_says_that_another_swarm_key_in_the_file_waits_for_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "swarm.key"
    key = generate_swarm_key(path)
    settings = settings_of(tmp_path, "node", network={"swarm_key_path": path})
    state = current(settings, lambda: settings)
    await state.begin(FakeNode(), key)
    await state.reread()
    assert "swarm key" not in caplog.text
    path.unlink()
    await state.reread()
    assert "stays so until a restart: there is no swarm key" in caplog.text
    generate_swarm_key(path)
    await state.reread()
    assert f"stays so until a restart: {path} has another one" in caplog.text


@pytest.mark.parametrize("wrong", ["configuration", "disk"])
async def test_a_reload_that_fails_keeps_the_old_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    def reload() -> NodeSettings:
        if wrong == "configuration":
            raise ConfigError("unknown key netwrok", remedy="did you mean network")
        return replace(old, trust=trusting("other"))

    old = settings_of(tmp_path, "node")
    state, node = current(old, reload), FakeNode(StoreError("the disk is full") if wrong == "disk" else None)
    await state.begin(node)
    await state.reread()
    assert state.settings is old
    assert not node.applied
    assert "not reloaded" in caplog.text
    assert "did you mean" in caplog.text or wrong == "disk"


async def test_a_reload_during_the_start_is_made_up_for(tmp_path: Path) -> None:
    old = settings_of(tmp_path, "node")
    new = replace(old, trust=trusting("other"))
    state, node = current(old, lambda: new), FakeNode()
    await state.reread()
    await state.begin(node)
    assert node.applied == [new]


def test_after_a_reload_each_setting_is_the_new_one_exactly_if_it_is_said_to_be_live(tmp_path: Path) -> None:
    old = settings_of(tmp_path, "node")
    changed: dict[str, object] = {dotted: f"another {dotted}" for dotted in SETTINGS}
    new = replace(with_values(old, {**changed, "snapshots.threshold": 2}), trust=trusting("new"))
    merged = live_part(old, new)
    assert merged.trust == new.trust
    for key in SETTINGS.values():
        assert key.of(old) != key.of(new), key.dotted
        assert key.of(merged) == key.of(new if key.live else old), key.dotted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_that_is_hashing_a_terabyte(tmp_path: Path, number: signal.Signals) -> None:
    artifacts = write_artifacts(tmp_path / "artifacts", rootfs_bytes=1 << 20)
    with (artifacts / "stable/x86_64/rootfs.squashfs").open("r+b") as rootfs:
        rootfs.truncate(1 << 40)  # a hole: it takes no room, and half an hour to hash
    with mesh_in(tmp_path) as mesh:
        node = mesh.serve(artifacts)
        assert node.heads() == {}
        assert node.stop(number) == 0
        assert "Traceback" not in node.log.read_text()
        assert not (node.state / "control.sock").exists()


def test_hang_up_reloads_a_running_node_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    configuration = tmp_path / "node.conf.toml"
    configuration.write_text("[provider]\nname = 'one'\n")
    with mesh_in(tmp_path) as mesh:
        artifacts = write_artifacts(tmp_path / "artifacts")
        node = mesh.serve(artifacts, "--config", str(configuration))
        node.wait_for_head(1)
        configuration.write_text("[provider]\nnmae = 'two'\n")
        node.process.send_signal(signal.SIGHUP)
        wait_for_text(node.log, "not reloaded")
        configuration.write_text("[provider]\nname = 'three'\n[network]\ngossip = false\n")
        node.process.send_signal(signal.SIGHUP)
        wait_for_text(node.log, "need a restart: network.gossip")
        assert "changed: provider.name" in node.log.read_text()
        assert node.stop() == 0


def wait_for_text(path: Path, text: str) -> None:
    wait_until(lambda: text in path.read_text(), text)


def test_the_key_is_made_once(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "node", network={"listen": ("/ip4/127.0.0.1/tcp/0",)})
    settings.identity.key_path.parent.mkdir()
    key = generate_key(settings.identity.key_path)
    lines: list[str] = []

    def end(line: str) -> None:
        lines.append(line)
        os.kill(os.getpid(), signal.SIGTERM)

    run_node(settings, reload=lambda: settings, announce_line=end, wall=time.time)
    assert lines[0].endswith(f"/p2p/{key.public.peer_id}")
    assert lines[0].startswith("/ip4/127.0.0.1/tcp/")
    assert "/tcp/0/" not in lines[0]


@pytest.mark.parametrize("missing", ["ip6", "ip4", None])
async def test_by_default_one_listens_on_what_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    monkeypatch.setattr(run_module, "can_listen", lambda kind: kind != missing)
    listen = tuple(address.replace("/4001", "/0") for address in NetworkSettings().listen)
    settings = settings_of(tmp_path, "node", network={"listen": listen, "listen_is_default": True})
    key = generate_key(tmp_path / "key")
    machine = Interfaces(
        lambda: Listing(
            tuple(
                OwnAddress(ipaddress.ip_address(ip), "lo", 1, Reach.LOOPBACK) for ip in ("127.0.0.1", "::1")
            )
        )
    )
    try:
        async with AsyncExitStack() as stack:
            transport = await run_module._open_transport(stack, settings, key, machine, Bandwidth())
            kinds = {address.split("/")[1] for address in transport.addresses()}
    except MachineError as error:
        pytest.skip(f"this machine has one family only: {error}")
    assert kinds == {"ip4", "ip6"} - {missing}


async def test_a_taken_default_port_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="p2pboot")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listen = tuple(address.replace("/4001", f"/{port}") for address in NetworkSettings().listen)
        settings = settings_of(tmp_path, "node", network={"listen": listen, "listen_is_default": True})
        key = generate_key(tmp_path / "key")
        async with AsyncExitStack() as stack:
            transport = await run_module._open_transport(stack, settings, key, Interfaces(), Bandwidth())
            assert transport.addresses()
            assert not [address for address in transport.addresses() if f"/tcp/{port}/" in address]
    assert "any free port" in caplog.text
