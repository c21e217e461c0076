"""A machine that speaks only HTTP boots from a mirror: stock firmware, a real kernel, QEMU without acceleration."""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from p2pboot.demo.inputs import prepare_inputs
from p2pboot.testing.processes import Mesh
from p2pboot.transport.traffic import HTTP
from tests.integration.machines import HOST, bios, switched_on, uefi

pytestmark = [pytest.mark.netboot, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifacts directory with Debian's kernel and a busybox initramfs whose init says that it runs."""
    directory = tmp_path_factory.mktemp("netboot")
    leaf = directory / "images" / "stable" / "x86_64"
    inputs = prepare_inputs(leaf, cache=directory / "cache", note=lambda _text: None)
    if not inputs.real or inputs.arch != "x86_64":
        pytest.skip(f"no kernel to boot here: {inputs.description}")
    inputs.rootfs.unlink()
    return directory / "images"


@pytest.mark.parametrize("kind", ["bios", "uefi"])
def test_machine_boots_from_a_mirrors_gateway(mesh: Mesh, image: Path, kind: str) -> None:
    firmware = bios() if kind == "bios" else uefi(mesh.directory)
    if firmware.missing is not None:
        pytest.skip(f"not installed here: {firmware.missing}")
    marker = f"p2pboot.marker={secrets.token_hex(8)}"
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(image, "--cmdline", f"console=ttyS0 panic=1 {marker}")
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address, "--http", "127.0.0.1:0")
    mirror.wait_for_head(1)
    publisher.stop()
    base = mirror.status()["http"][0]

    with switched_on(firmware, f"http://{HOST}:{base.rpartition(':')[2]}/boot.ipxe") as machine:
        machine.wait_for("this initramfs came over the network", marker + "\r\n")

    sizes = [path.stat().st_size for path in (image / "stable" / "x86_64").iterdir()]
    traffic = mirror.status()["traffic"]
    assert sum(one["received"] for one in traffic if one["kind"] != HTTP) >= sum(sizes)
    assert sum(one["sent"] for one in traffic if one["kind"] == HTTP) >= sum(sizes)


STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
OWN_COMMAND_LINE = "console=ttyS0 panic=1 p2pboot.own"


@pytest.fixture
def unified(mesh: Mesh, image: Path) -> Path:
    """An artifacts directory with nothing but a unified kernel image of the same kernel and initramfs."""
    objcopy = shutil.which("objcopy")
    if objcopy is None or not STUB.exists():
        pytest.skip(f"not installed here: objcopy or {STUB} (Debian: binutils systemd-boot-efi)")
    (kernel,), (initramfs,) = (
        tuple((image / "stable" / "x86_64").glob(form)) for form in ("vmlinuz*", "initr*")
    )
    leaf = mesh.directory / "unified" / "stable" / "x86_64"
    leaf.mkdir(parents=True)
    texts = {".osrel": "ID=p2pboot-test\n", ".cmdline": OWN_COMMAND_LINE}
    for name, text in texts.items():
        (mesh.directory / name).write_text(text)
    sections = {
        ".osrel": (mesh.directory / ".osrel", 0x20000),
        ".cmdline": (mesh.directory / ".cmdline", 0x30000),
        ".linux": (kernel, 0x2000000),
        ".initrd": (initramfs, 0x4000000),
    }
    arguments: list[str] = []
    for name, (file, address) in sections.items():
        arguments += ["--add-section", f"{name}={file}", "--change-section-vma", f"{name}={address:#x}"]
    subprocess.run([objcopy, *arguments, STUB, leaf / "vmlinuz.efi"], check=True)
    return leaf.parents[1]


@pytest.mark.parametrize("signed", [None, "console=ttyS0 panic=1 p2pboot.signed"])
def test_machine_boots_a_unified_kernel_image(mesh: Mesh, unified: Path, signed: str | None) -> None:
    """With the command line that the publisher signed, or else with the image's own and nothing else."""
    firmware = uefi(mesh.directory)
    if firmware.missing is not None:
        pytest.skip(f"not installed here: {firmware.missing}")
    node = mesh.serve(unified, "--http", "127.0.0.1:0", *(["--cmdline", signed] if signed else []))
    node.wait_for_head(1)
    base = node.status()["http"][0]
    with switched_on(firmware, f"http://{HOST}:{base.rpartition(':')[2]}/boot.ipxe") as machine:
        machine.wait_for("this initramfs came over the network", "Kernel command line: ")
    (line,) = re.findall(rb"Kernel command line: *([^\r\n]*)", machine.console)
    assert line.decode() == (signed or OWN_COMMAND_LINE)
