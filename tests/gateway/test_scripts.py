"""The two forms that a manifest takes for clients that can not read it: an iPXE script, and Phase's view."""

from __future__ import annotations

import json

import pytest

from p2pboot.errors import ManifestError
from p2pboot.gateway.ipxe import boot_script
from p2pboot.gateway.phase import phase_view
from tests.core.phase_verify import phase_verify
from tests.fetch.world import FILES, KEY, manifest_of

BASE = "http://10.0.2.2:8080"


def test_script_names_kernel_initramfs_and_command_line_of_one_manifest() -> None:
    manifest = manifest_of(cmdline="console=ttyS0,115200 root=/dev/vda quiet")
    kernel, initramfs = (manifest.artifacts[key].sha256 for key in ("kernel", "initramfs"))
    assert boot_script(manifest, BASE).splitlines() == [
        "#!ipxe",
        "echo stable/x86_64, manifest version 1",
        f"kernel --name kernel {BASE}/blobs/{kernel} initrd=initrd console=ttyS0,115200 root=/dev/vda quiet",
        f"initrd --name initrd {BASE}/blobs/{initramfs}",
        "boot",
    ]


def test_script_of_a_unified_kernel_image_loads_one_file() -> None:
    manifest = manifest_of({"uki": FILES["kernel"], "rootfs": FILES["rootfs"]}, cmdline=None)
    assert boot_script(manifest, BASE).splitlines() == [
        "#!ipxe",
        "echo stable/x86_64, manifest version 1",
        f"kernel --name= {BASE}/blobs/{manifest.artifacts['uki'].sha256}",
        "boot",
    ]


def test_script_of_a_unified_kernel_image_has_the_signed_command_line() -> None:
    manifest = manifest_of({"uki": FILES["kernel"]}, cmdline="console=ttyS0 quiet")
    (line,) = [one for one in boot_script(manifest, BASE).splitlines() if one.startswith("kernel ")]
    assert line.endswith(f"/blobs/{manifest.artifacts['uki'].sha256} console=ttyS0 quiet")
    with pytest.raises(ManifestError):
        boot_script(manifest_of({"uki": FILES["kernel"]}, cmdline="a || b"), BASE)


def test_script_without_command_line() -> None:
    lines = boot_script(manifest_of(cmdline=""), BASE).splitlines()
    assert lines[2].endswith(" initrd=initrd")


@pytest.mark.parametrize("cmdline", ["a=${net0/mac}", "quiet || shell", "a && b", "a # b", 'a="x  y"'])
def test_command_line_that_ipxe_would_read_otherwise_is_refused(cmdline: str) -> None:
    with pytest.raises(ManifestError):
        boot_script(manifest_of(cmdline=cmdline), BASE)


@pytest.mark.parametrize("cmdline", ["a=x#y", "a=$b {c}", "a||b", "a=1   b=2", 'a="x y"'])
def test_command_line_that_only_looks_so_is_taken(cmdline: str) -> None:
    assert cmdline in boot_script(manifest_of(cmdline=cmdline), BASE)


def test_view_differs_from_the_manifest_only_in_the_artifacts() -> None:
    manifest = manifest_of()
    document, view = json.loads(manifest.raw), json.loads(phase_view(manifest, BASE))
    artifacts, originals = view.pop("artifacts"), document.pop("artifacts")
    assert view == document
    assert list(artifacts) == ["kernel", "initramfs", "rootfs"]
    for key, original in originals.items():
        digest = original["hash"].removeprefix("sha256:")
        assert artifacts[key] == original | {
            "hash": digest,
            "size_bytes": original["size"],
            "download_url": f"/{key}",
            "urls": [f"{BASE}/blobs/{digest}"],
        }


def test_view_has_no_white_space_between_tokens() -> None:
    manifest = manifest_of()
    view = phase_view(manifest, BASE)
    assert view == json.dumps(json.loads(view), separators=(",", ":")).encode()
    assert b'"download_url":"/kernel"' in view


def test_phases_verifier_takes_the_view_and_reads_what_was_signed() -> None:
    manifest = manifest_of()
    view = phase_view(manifest, BASE)
    prefixed = view.replace(b'"hash":"', b'"hash":"sha256:')  # the re-implementation wants the algorithm
    assert phase_verify(prefixed, KEY.public.raw) == json.loads(manifest.data)
