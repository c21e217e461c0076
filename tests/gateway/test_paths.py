"""One form for every spelling of a path that the trade uses, and none for what leads anywhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pboot.gateway.paths import plain_path
from tests.gateway.world import PAIR, Running

KERNEL = f"{PAIR}/kernel"


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("/", "/"),
        ("//", "/"),
        ("/./", "/"),
        ("/.", "/"),
        ("/boot.ipxe", "/boot.ipxe"),
        ("//boot.ipxe", "/boot.ipxe"),
        ("///./boot.ipxe", "/boot.ipxe"),
        ("/%2e/boot.ipxe", "/boot.ipxe"),
        ("/boot%2Eipxe", "/boot.ipxe"),
        ("/stable//x86_64/kernel", KERNEL),
        ("/stable/./x86_64///kernel", KERNEL),
        ("/stable/x86%5F64/kernel", KERNEL),
        ("/stable/x86%5f64/%6b%65rnel", KERNEL),
        ("/%73table/x86_64/kernel", KERNEL),
        ("/dtbs/ti/k3-am62%2Bx.dtb", "/dtbs/ti/k3-am62+x.dtb"),
        ("/dtbs/a%2Cb%40c.dtb", "/dtbs/a,b@c.dtb"),
        ("/dtbs/a,b@c+d.dtbo", "/dtbs/a,b@c+d.dtbo"),
        ("/...", "/..."),  # a name that nobody has
        ("/boot.ipxe/", "/boot.ipxe/"),
        ("/boot.ipxe//", "/boot.ipxe/"),
        ("/boot.ipxe/.", "/boot.ipxe/"),
    ],
)
def test_spellings_of_one_path(raw: str, plain: str) -> None:
    assert plain_path(raw) == plain


@pytest.mark.parametrize(
    "raw",
    [
        "/..",
        "/../boot.ipxe",
        "//../boot.ipxe",
        "/%2e%2e/boot.ipxe",
        "/.%2E/boot.ipxe",
        "/a/%2e./b",
        "/stable%2Fx86_64",
        "/stable%5Cx86_64",
        "/x86%255F64",
        "/%25%35%46",
        "/kernel%00",
        "/kernel%0a",
        "/kernel%7f",
        "/kernel%20",
        "/kernel%7e",
        "/kernel%3Fa",
        "/kernel%C3%A9",
        "/kernel%e0%80%ae",
        "/kernel%",
        "/kernel%2",
        "/kernel%u002e",
        "/kernel%zz",
        "/kern\\el",
        "/kern el",
        "/kernel\n",
        "/kernel#a",
        "/kernel:a",
        "/kernel~",
        "/kern\xe9l",
    ],
)
def test_what_names_nothing(raw: str) -> None:
    assert plain_path(raw) is None


@given(st.text("%./2eEf5Fabc\\\0", max_size=24))
def test_plain_paths_stay_as_they_are_and_never_lead_upward(tail: str) -> None:
    plain = plain_path(f"/{tail}")
    if plain is not None:
        assert plain_path(plain) == plain
        assert plain.startswith("/")
        assert not {"..", "."} & set(plain.split("/"))
        assert "//" not in plain
        assert "%" not in plain


@pytest.mark.parametrize(
    "path",
    [
        "//boot.ipxe",
        "/./boot.ipxe",
        "/boot.ipxe?mac=52:54:00:12:34:56&uuid=1",
        "//boot.ipxe?a=//../b",
        "/stable//x86_64/kernel",
        "/stable/x86%5F64/kernel",
        "/stable/X86_64/kernel",
        "//phase//stable/x86_64/manifest.json",
        "/%6Danifest.json",
    ],
)
async def test_paths_as_the_trade_writes_them(gateway: Running, path: str) -> None:
    reply = await gateway.get(path)
    assert reply.status == 200
    assert "location" not in reply.headers
    assert (await gateway.get(path, method="HEAD"))["Content-Length"] == reply["Content-Length"]


@pytest.mark.parametrize(
    "path", ["/STABLE/x86_64/kernel", "/stable/x86_64/KERNEL", "/Boot.ipxe", "/stable/x86_64/kernel/"]
)
async def test_only_the_arch_is_of_any_case(gateway: Running, path: str) -> None:
    assert (await gateway.get(path)).status == 404
