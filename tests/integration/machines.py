"""A virtual machine with the firmware that comes with it, on QEMU's user network: no packet leaves this machine."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

QEMU = "qemu-system-x86_64"
HOST = "10.0.2.2"  # this machine, as the guest sees it
BOOT_S = 240.0  # software emulation on a busy machine; 10 s on an idle one
_ROMS = (Path("/usr/lib/ipxe/qemu/pxe-virtio.rom"), Path("/usr/lib/ipxe/qemu/efi-virtio.rom"))
_FIRMWARE = (Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd"))
_IPXE_EFI = (Path("/usr/lib/ipxe/ipxe.efi"), Path("/boot/ipxe.efi"))


@dataclass(frozen=True)
class Firmware:
    """What the machine starts with.

    Args:
        name: of the test's case.
        arguments: for QEMU.
        missing: what is not installed here, or None.
    """

    name: str
    arguments: tuple[str, ...]
    missing: str | None


def bios() -> Firmware:
    """SeaBIOS, which starts the iPXE in the network card's ROM: what QEMU does by itself."""
    missing = _not_installed()
    if missing is None and not any(rom.exists() for rom in _ROMS):
        missing = f"{_ROMS[0]} (Debian: ipxe-qemu)"
    return Firmware("bios", ("-boot", "n"), missing)


def uefi(directory: Path) -> Firmware:
    """OVMF, which starts Debian's iPXE for UEFI from a small disk.

    Args:
        directory: for the disk and the firmware's variables.
    """
    missing = _not_installed()
    loader = next((path for path in _IPXE_EFI if path.exists()), None)
    if missing is None and not all(path.exists() for path in _FIRMWARE):
        missing = f"{_FIRMWARE[0]} (Debian: ovmf)"
    if missing is None and loader is None:
        missing = f"{_IPXE_EFI[0]} (Debian: ipxe)"
    if missing is not None or loader is None:
        return Firmware("uefi", (), missing)
    boot = directory / "disk" / "EFI" / "BOOT"
    boot.mkdir(parents=True)
    shutil.copy(loader, boot / "BOOTX64.EFI")
    shutil.copy(_FIRMWARE[1], directory / "vars.fd")
    return Firmware(
        "uefi",
        (
            "-drive",
            f"if=pflash,format=raw,readonly=on,file={_FIRMWARE[0]}",
            "-drive",
            f"if=pflash,format=raw,file={directory / 'vars.fd'}",
            "-drive",
            f"format=raw,file=fat:rw:{directory / 'disk'}",
        ),
        None,
    )


def _not_installed() -> str | None:
    return None if shutil.which(QEMU) else f"{QEMU} (Debian: qemu-system-x86)"


class Machine:
    """A machine that was switched on; what its serial console said is in `console`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.console = b""

    def wait_for(self, *texts: str) -> None:
        """Read the console until all of these were on it."""
        end = time.monotonic() + BOOT_S
        assert self._process.stdout is not None
        while not all(text.encode() in self.console for text in texts):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not data:
                what = "ended" if ready else f"did not get there in {BOOT_S:.0f} s"
                raise AssertionError(f"the machine {what}: {self.console[-4000:].decode(errors='replace')}")
            self.console += data


@contextmanager
def switched_on(firmware: Firmware, boot_url: str) -> Iterator[Machine]:
    """Run a machine whose DHCP says to boot from `boot_url`; it is off afterwards."""
    command = [
        QEMU,
        "-accel",
        "tcg",
        "-m",
        "512",
        "-nographic",
        "-no-reboot",
        "-nodefaults",
        "-serial",
        "stdio",
    ]
    network = ["-netdev", f"user,id=n,bootfile={boot_url}", "-device", "virtio-net-pci,netdev=n"]
    process = subprocess.Popen(
        [*command, *network, *firmware.arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield Machine(process)
    finally:
        process.kill()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
