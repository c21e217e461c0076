from __future__ import annotations

from pathlib import Path

import pytest

from p2pboot.config import values
from p2pboot.errors import UsageError

HERE = Path()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10MB", 10_000_000),
        ("1GiB", 1 << 30),
        ("1.5 GB", 1_500_000_000),
        ("0.1MB", 100_000),
        ("64kb", 64_000),
        ("4096", 4096),
        (4096, 4096),
        ("unlimited", None),
    ],
)
def test_size_is_read_with_its_unit(text: object, size: int | None) -> None:
    assert values.size_bytes(text, HERE) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "-1MB", "10 XB", "1e3", "0", "0.0000001B", "10MB/s", "99999999999999TB"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        values.size_bytes(text, HERE)


@pytest.mark.parametrize("value", [True, 1.5, ["1MB"], None])
def test_size_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        values.size_bytes(value, HERE)


@pytest.mark.parametrize(
    ("text", "quota"), [("auto", "auto"), (" Auto ", "auto"), ("unlimited", None), ("20GB", 20 * 10**9)]
)
def test_a_quota_is_a_size_or_what_the_disk_has(text: object, quota: object) -> None:
    assert values.quota_bytes(text, HERE) == quota


def test_what_is_no_quota_is_refused() -> None:
    with pytest.raises(ValueError, match='must be a size like "500MB" or "20GiB", "auto" or "unlimited"'):
        values.quota_bytes("some", HERE)


@pytest.mark.parametrize("number", [0, 3, "1", True])
def test_one_or_two_versions_are_kept(number: object) -> None:
    assert values.kept_versions(1, HERE) == 1
    with pytest.raises(ValueError, match="must be"):
        values.kept_versions(number, HERE)


def test_limit_that_must_be_can_not_be_unlimited() -> None:
    assert values.bounded_size_bytes("1GiB", HERE) == 1 << 30
    with pytest.raises(ValueError, match="there has to be a limit"):
        values.bounded_size_bytes("unlimited", HERE)


@pytest.mark.parametrize(
    ("text", "rate"), [("2MB/s", 2_000_000), ("512KiB/s", 524_288), ("3MB", 3_000_000), (7, 7)]
)
def test_rate_is_read_with_and_without_per_second(text: object, rate: int) -> None:
    assert values.rate_bytes_per_s(text, HERE) == rate


@pytest.mark.parametrize(("text", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("90s", 90), (60, 60)])
def test_duration_is_read_in_seconds(text: object, seconds: int) -> None:
    assert values.duration_s(text, HERE) == seconds


@pytest.mark.parametrize("text", ["30", "d", "-1d", "0s", 0, "9999w", True, 1.5, "1d12h"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        values.duration_s(text, HERE)


def test_relative_path_starts_at_the_base_and_an_absolute_one_stays(tmp_path: Path) -> None:
    assert values.path("keys/node.toml", tmp_path) == tmp_path / "keys/node.toml"
    assert values.path("/srv/state", tmp_path) == Path("/srv/state")


def test_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert values.path("~/state", Path("/etc")) == tmp_path / "state"


def test_aarch64_is_arm64() -> None:
    assert values.arch("aarch64", HERE) == "arm64"


@pytest.mark.parametrize("text", ["", "two\nlines", "bell\x07", "x" * 256])
def test_text_with_control_characters_or_without_bounds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        values.provider_name(text, HERE)


def test_kernel_command_line_is_bounded() -> None:
    assert values.cmdline("console=ttyS0 quiet", HERE) == "console=ttyS0 quiet"
    with pytest.raises(ValueError, match="4096 bytes"):
        values.cmdline("é" * 2049, HERE)


@pytest.mark.parametrize(
    "address", ["nonsense", "/ip4/1.2.3/tcp/1", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/tcp/70000"]
)
def test_unparsable_multiaddr_is_named_with_a_remedy(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        values.peer_addresses([address], HERE)
    assert address in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("address", ["/ip6zone/eth0/ip6/fe80::1/tcp/4001", "/ip4/169.254.7.7/tcp/4001"])
def test_an_operator_may_name_a_link_local_address_that_says_its_link(address: str) -> None:
    assert values.peer_addresses([address], HERE) == (address,)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/ip4/0.0.0.0/tcp/4001", "can not be dialled"),
        ("/ip4/1.2.3.4/tcp/0", "can not be dialled"),
        ("/ip6/fe80::1/tcp/1", "/ip6zone/eth0/ip6/fe80::1/tcp/1"),
    ],
)
def test_bootstrap_address_must_be_dialable(address: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        values.peer_addresses([address], HERE)


def test_listening_needs_an_address() -> None:
    assert values.listen_addresses(["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/tcp/0"], HERE) == (
        "/ip4/0.0.0.0/tcp/0",
    )
    with pytest.raises(ValueError, match="at least one"):
        values.listen_addresses([], HERE)


@pytest.mark.parametrize("value", ["/ip4/1.2.3.4/tcp/1", [1], {"a": "b"}])
def test_list_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be a list of strings"):
        values.peer_addresses(value, HERE)


@pytest.mark.parametrize(
    "text", ["0.0.0.0:8080", "[::]:0", "localhost:80", "boot-1.example.net:65535", "systemd", "systemd:http"]
)
def test_http_address_is_taken_as_it_is(text: str) -> None:
    assert values.http_address(text, HERE) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":8080",
        "host:",
        "host:65536",
        "::1:80",
        "[::1]",
        "a b:80",
        "h/x:80",
        "h:80/",
        "systemd:",
        "systemd:a:b",
    ],
)
def test_what_is_no_http_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        values.http_address(text, HERE)


def test_http_bases_lose_their_slash_and_their_doubles() -> None:
    given = ["http://192.0.2.7:8080/", "http://192.0.2.7:8080", "https://boot.example/images/"]
    assert values.http_bases(given, HERE) == ("http://192.0.2.7:8080", "https://boot.example/images")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "boot.example",
        "ftp://x",
        "http://",
        "http://a b",
        "http://x/?q=1",
        "http://u@x",
        "http://x/#f",
        "http://x:0",
    ],
)
def test_what_is_no_http_base_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        values.http_bases([text], HERE)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("fd00::/8", "fd00::/8"),
        ("::1", "::1/128"),
        ("FD00:0::1", "fd00::1/128"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_networks_have_one_spelling(text: str, network: str) -> None:
    assert values.networks([text, network], HERE) == (network,)


@pytest.mark.parametrize(
    "text",
    ["", "proxy.example", "192.0.2.7:80", "[::1]", "10.0.0.0/33", "10.0.0", "fe80::1%eth0/64", "*", "1/8"],
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be networks or addresses like"):
        values.networks([text], HERE)


def test_address_inside_of_a_network_is_refused_with_what_was_meant() -> None:
    with pytest.raises(ValueError, match=r'did you mean "10.0.0.0/8"\?'):
        values.networks(["10.0.0.7/8"], HERE)
    with pytest.raises(ValueError, match="at most 64"):
        values.networks([f"192.0.2.{number}" for number in range(65)], HERE)


@pytest.mark.parametrize("value", ["unlimited", "big", "65535", "32MiB", 0, 3, True, 1.5])
def test_what_is_no_piece_length_is_told_what_one_is(value: object) -> None:
    with pytest.raises(ValueError, match=r'^must be a power of two from "64KiB" to "16MiB"'):
        values.piece_length(value, HERE)


def test_a_piece_length_is_a_size() -> None:
    assert values.piece_length("64KiB", HERE) == values.piece_length(65536, HERE) == 65536
