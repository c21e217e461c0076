"""One parser for each kind of value, the same for the TOML file and the command line.

A parser takes the raw value (what TOML or the shell gave) and the directory that relative paths start from,
and returns the typed value. It raises ValueError, or UsageError where it has a remedy, with what is wrong:
"must be …". Who knows the value's name (a file's key or a flag) puts it in front.

The declarations of settings name these parsers, and `--help` is made of the declarations: what is slow to import is
imported when a value is read.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from p2pboot.core.timestamps import parse_duration
from p2pboot.errors import Malformed, SignatureError

if TYPE_CHECKING:
    from p2pboot.core.trustdocs.chain import Anchor
    from p2pboot.transport.addresses import Address

MAX_BYTES = 2**53 - 1
MAX_NETWORKS = 64  # more proxies than anybody has; each is compared with the address of every client
MAX_DURATION_S = 10 * 366 * 86400

DhtMode = Literal["server", "client", "off"]
LogForm = Literal["auto", "text", "json", "journal"]

_UNITS = {
    "": 1,
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", start=1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", start=1)},
}
_KINDS = {  # what a person calls the TOML type of a value
    bool: "a boolean",
    int: "a number",
    float: "a number with a fraction",
    str: "a string",
    list: "a list",
    tuple: "a list",
    dict: "a table",
}
OFF = "off"
_HTTP_ADDRESS = r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9._-]{0,252}):([0-9]{1,5})"
_PASSED = r"systemd(?::[!-9;-~]{1,255})?"  # a name has no colon and no space
_SIZE = r"(\d{1,16}(?:\.\d{1,6})?)\s*([A-Za-z]*)"
MAX_PAIRS = 256
UNLIMITED = "unlimited"
AUTO: Final = "auto"


def boolean(value: object, _base: Path) -> bool:
    """Exactly true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_kind(value)}")
    return value


def integer(value: object, _base: Path) -> int:
    """A whole number of any size; who asks knows the range."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"must be a whole number, not {_kind(value)}")
    return value


def provider_name(value: object, _base: Path) -> str:
    """What a provider calls itself in its manifests."""
    from p2pboot.core.manifest.fields import MAX_NAME_BYTES

    return _text(value, MAX_NAME_BYTES)


def version(value: object, _base: Path) -> str:
    """The version of an image, free text."""
    from p2pboot.core.manifest.fields import MAX_VERSION_BYTES

    return _text(value, MAX_VERSION_BYTES)


def cmdline(value: object, _base: Path) -> str:
    """A kernel command line."""
    from p2pboot.core.manifest.fields import MAX_CMDLINE_BYTES

    return _text(value, MAX_CMDLINE_BYTES)


def channel(value: object, _base: Path) -> str:
    """The name of a channel."""
    from p2pboot.core.names import check_name

    return check_name(_string(value), "channel")


def site(value: object, _base: Path) -> str:
    """The name of a site."""
    from p2pboot.core.names import check_name

    return check_name(_string(value), "site")


def dht_mode(value: object, _base: Path) -> DhtMode:
    """What one does in the distributed hash table."""
    match _string(value):
        case "server":
            return "server"
        case "client":
            return "client"
        case "off":
            return "off"
    raise ValueError("must be server, client or off")


def log_form(value: object, _base: Path) -> LogForm:
    """The form of the log's lines."""
    match _string(value):
        case "auto":
            return "auto"
        case "text":
            return "text"
        case "json":
            return "json"
        case "journal":
            return "journal"
    raise ValueError("must be auto, text, json or journal")


def audit_log(value: object, base: Path) -> Path | Literal["off"]:
    """A file, as `path` takes it, or off."""
    return "off" if _string(value) == "off" else path(value, base)


def arch(value: object, _base: Path) -> str:
    """An architecture by its canonical name; the usual aliases are taken for theirs."""
    from p2pboot.core.names import normalise_arch

    return normalise_arch(_string(value))


def path(value: object, base: Path) -> Path:
    """A file or directory; `~` is the user's home, a relative path starts at `base`."""
    string = _string(value)
    if not string or "\0" in string:
        raise ValueError("must be the path of a file or directory")
    unknown = "names a home directory that is not known; give the whole path"
    if string.partition("/")[0] == "~" and not os.environ.get("HOME", "/").startswith("/"):
        raise ValueError(unknown)  # an empty HOME would stand for the root directory
    try:
        return base / Path(string).expanduser()
    except RuntimeError:
        raise ValueError(unknown) from None


def duration_s(value: object, _base: Path) -> int:
    """Seconds, from "30d", "12h", "90m", "45s", "2w" or a whole number of seconds; 1 s to 10 years."""
    if isinstance(value, str):
        try:
            seconds = parse_duration(value)
        except ValueError:
            raise ValueError(f'must be a duration like "30d", "12h" or "90s", not {value!r}') from None
    elif isinstance(value, int) and not isinstance(value, bool):
        seconds = value
    else:
        raise ValueError(f'must be a duration like "30d", "12h" or "90s", not {_kind(value)}')
    if not 1 <= seconds <= MAX_DURATION_S:
        raise ValueError("must be between 1 second and 10 years")
    return seconds


def freshness_validity_s(value: object, base: Path) -> int:
    """Seconds as `duration_s` reads them, a minute at least: a statement is renewed four times in that."""
    seconds = duration_s(value, base)
    if seconds < 60:
        raise ValueError("must be at least a minute")
    return seconds


def size_bytes(value: object, _base: Path) -> int | None:
    """Bytes, from 1048576, "10MB" (10^6), "1GiB" (2^30); None for "unlimited"."""
    return _amount(value, 'a size like "500MB", "20GiB" or "unlimited"')


def piece_length(value: object, _base: Path) -> int:
    """Bytes of a piece: a power of two from "64KiB" to "16MiB"."""
    from p2pboot.core.pieces import check_piece_length

    wanted = 'a power of two from "64KiB" to "16MiB"'
    size = _amount(value, wanted)
    try:
        return check_piece_length(size or 0)
    except ValueError:
        raise ValueError(f"must be {wanted}, not {value!r}") from None


def quota_bytes(value: object, _base: Path) -> int | Literal["auto"] | None:
    """Like `size_bytes`, or "auto" for what leaves a part of the disk free."""
    if isinstance(value, str) and value.strip().lower() == AUTO:
        return AUTO
    return _amount(value, 'a size like "500MB" or "20GiB", "auto" or "unlimited"')


def pair_count(value: object, base: Path) -> int:
    """How many channels and architectures: 1 to 256, which is what one node follows."""
    number = integer(value, base)
    if not 1 <= number <= MAX_PAIRS:
        raise ValueError(f"must be 1 to {MAX_PAIRS}, not {number}")
    return number


def kept_versions(value: object, base: Path) -> int:
    """How many versions of an image stay: 1 or 2."""
    number = integer(value, base)
    if number not in (1, 2):
        raise ValueError(f"must be 1 or 2, not {number}")
    return number


def bounded_size_bytes(value: object, base: Path) -> int:
    """Like `size_bytes`, for a limit that there must be."""
    size = size_bytes(value, base)
    if size is None:
        raise ValueError('must be a size like "500MB" or "20GiB": there has to be a limit')
    return size


def rate_bytes_per_s(value: object, _base: Path) -> int | None:
    """Bytes per second, from 2000000, "2MB/s", "512KiB/s"; None for "unlimited"."""
    bare = value.strip().removesuffix("/s") if isinstance(value, str) else value
    return _amount(bare, 'a rate like "2MB/s", "512KiB/s" or "unlimited"')


def listen_addresses(value: object, _base: Path) -> tuple[str, ...]:
    """Multiaddrs to listen on, none twice; at least one."""
    from p2pboot.transport.addresses import parse_listen_address

    addresses = _addresses(value, parse_listen_address)
    if not addresses:
        raise ValueError("must name at least one multiaddr")
    return addresses


def peer_addresses(value: object, _base: Path) -> tuple[str, ...]:
    """Multiaddrs to dial, with or without `/p2p/<peer id>`, none twice."""
    return _addresses(value, _parse_dialable)


def _parse_dialable(text: str) -> Address:
    from p2pboot.transport.addresses import DNSADDR, parse_address

    address = parse_address(text)
    if address.kind == "ip6" and address.is_link_local and not address.is_dialable_here and address.port:
        raise ValueError(f"{text!r} can not be dialled: say on which interface, as in /ip6zone/eth0{text}")
    if not (address.is_dialable or address.is_dialable_here or address.kind == DNSADDR):
        raise ValueError(f"{text!r} can not be dialled: give a peer's own address and port")
    return address


def _addresses(value: object, parse: Callable[[str], Address]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(parse(text)) for text in strings(value)))


def http_address(value: object, _base: Path) -> str:
    """Where to listen for HTTP: `HOST:PORT`; an IPv6 address in brackets, port 0 is any free one.

    Or `systemd` and `systemd:NAME`: the sockets that the service manager passes.
    """
    text = _string(value)
    if is_passed(text):
        return text
    match = re.fullmatch(_HTTP_ADDRESS, text)
    if match is None or int(match[2]) > 65535:
        raise ValueError(
            f'must be HOST:PORT like "0.0.0.0:8080" or "[::]:8080", or "systemd", not {text[:80]!r}'
        )
    return text


def admin_address(value: object, base: Path) -> str:
    """Where to listen for the status page: as `http_address`, or `off`."""
    return OFF if value == OFF else http_address(value, base)


def is_passed(where: str) -> bool:
    """Whether sockets are meant that the service manager opens: `systemd`, or `systemd:NAME`."""
    return re.fullmatch(_PASSED, where) is not None


def http_bases(value: object, _base: Path) -> tuple[str, ...]:
    """Beginnings of URLs, `http://…` or `https://…` without a query; without the slash at the end, none twice."""
    from p2pboot.core.manifest.fields import check_urls

    bases = tuple(dict.fromkeys(text.rstrip("/") for text in strings(value)))
    try:
        check_urls("URL", bases)
    except Malformed as error:
        raise ValueError(f'must be like "http://192.0.2.7:8080": {error.message}') from None
    if any("?" in base for base in bases):
        raise ValueError("must be without a query: a path is put behind it")
    return bases


def networks(value: object, _base: Path) -> tuple[str, ...]:
    """Networks in CIDR notation, or single addresses, IPv4 or IPv6, in one spelling, none twice."""
    found = tuple(dict.fromkeys(str(_network(text)) for text in strings(value)))
    if len(found) > MAX_NETWORKS:
        raise ValueError(f"must be at most {MAX_NETWORKS} networks")
    return found


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        if "%" in text:  # a client's address has a zone only where it is of this very link
            raise ValueError
        network = ipaddress.ip_network(text.strip(), strict=False)
        is_whole = network.network_address == ipaddress.ip_interface(text.strip()).ip
    except ValueError:
        raise ValueError(
            f'must be networks or addresses like "192.0.2.7", "10.0.0.0/8" or "fd00::/8", not {text[:80]!r}'
        ) from None
    if not is_whole:  # a slip of the pen, in the address or in the length: too many would be trusted
        raise ValueError(
            f'must be whole networks, and {text[:80]!r} is inside of one: did you mean "{network}"?'
        )
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:  # clients of such addresses count as IPv4
        return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def key_ids(value: object, _base: Path) -> tuple[str, ...]:
    """Key ids in any accepted form (`ed25519:<hex>`, bare hex, peer id) as `ed25519:<hex>`, none twice."""
    from p2pboot.core.identity import parse_keyid

    return tuple(dict.fromkeys(parse_keyid(text).keyid for text in strings(value)))


def root_anchor(value: object, base: Path) -> Anchor:
    """A root that is believed: the path of its file, or `sha256:` and the digest of one of its versions."""
    from dataclasses import replace

    from p2pboot.core.trustdocs.chain import DIGEST_PREFIX, Anchor
    from p2pboot.core.trustdocs.envelope import MAX_DOCUMENT
    from p2pboot.core.trustdocs.root import Root
    from p2pboot.store.inputs import open_named

    text = _string(value)
    if text.startswith(DIGEST_PREFIX):
        return Anchor.of_digest(text)
    path = base / text
    try:
        with open_named(path) as file:
            raw = file.read(MAX_DOCUMENT + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    try:
        return replace(Anchor.of_root(Root.parse(raw.rstrip(b"\n"))), path=str(path))
    except (Malformed, SignatureError) as error:
        raise ValueError(f"{path} is no root: {error.message}") from None


def peer_ids(value: object, _base: Path) -> tuple[str, ...]:
    """Peers by their peer ids `12D3KooW…`, or key ids as of `key_ids`, as peer ids, none twice."""
    from p2pboot.core.identity import parse_keyid

    return tuple(dict.fromkeys(parse_keyid(text).peer_id for text in strings(value)))


def some_key_ids(value: object, base: Path) -> tuple[str, ...]:
    """Like `key_ids`, at least one."""
    found = key_ids(value, base)
    if not found:
        raise ValueError("must name at least one key id")
    return found


def some_names(value: object, _base: Path) -> tuple[str, ...]:
    """Names of channels or architectures, at least one; which are names, `core.policy` checks."""
    items = strings(value)
    if not items:
        raise ValueError("must not be an empty list; leave it out to allow all")
    return items


def strings(value: object) -> tuple[str, ...]:
    """A list of strings."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of strings, not {_kind(value)}")
    for item in value:
        if not isinstance(item, str):
            raise ValueError(f"must be a list of strings, and {_kind(item)} is in it")
    return tuple(value)


def _amount(value: object, wanted: str) -> int | None:
    if isinstance(value, str):
        if value.strip().lower() == UNLIMITED:
            return None
        amount = _parse_amount(value.strip(), wanted)
    elif isinstance(value, int) and not isinstance(value, bool):
        amount = value
    else:
        raise ValueError(f"must be {wanted}, not {_kind(value)}")
    if not 1 <= amount <= MAX_BYTES:
        raise ValueError(f"must be {wanted}, at least 1 byte")
    return amount


def _parse_amount(value: str, wanted: str) -> int:
    from decimal import Decimal

    match = re.fullmatch(_SIZE, value)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"must be {wanted}, not {value!r}")
    return int(Decimal(match[1]) * _UNITS[match[2].lower()])


def _text(value: object, max_bytes: int) -> str:
    string = _string(value)
    if not string or len(string.encode()) > max_bytes or not string.isprintable():
        raise ValueError(f"must be 1 to {max_bytes} bytes of printable characters on one line")
    return string


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a date or time")
