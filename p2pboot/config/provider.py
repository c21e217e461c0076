"""What is published, under which name and by which keys: the settings of `[identity]` and `[provider]`."""

from __future__ import annotations

from pathlib import Path

from p2pboot.config import values
from p2pboot.config.setting import setting
from p2pboot.core.dataclass import dataclass


def host_name() -> str:
    """This machine's name, without domain; what does not belong into a manifest is left out."""
    import socket

    name = "".join(c for c in socket.gethostname().split(".")[0] if c.isprintable())
    return name or "p2pboot"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Which keys the node uses."""

    key_path: Path = setting(
        values.path,
        "--key PATH",
        "Key file of this node. `serve` and `mirror` make it when it does not exist.",
        default="keys/node.toml",
        default_words="`keys/node.toml` in the working directory",
    )
    signing_key_path: Path | None = setting(
        values.path,
        "--signing-key PATH",
        "Key file that signs instead of the node's. It must exist. A serving machine then holds no key"
        " that others trust for more.",
        example="keys/release.toml",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What is published, and under which name."""

    name: str = setting(
        values.provider_name,
        "--name N",
        "Provider's name. It goes into each manifest; at most 255 bytes.",
        default=host_name,
        default_words="this host's",
        example="boot-1",
        live=True,
    )
    channel: str | None = setting(
        values.channel,
        "--channel C",
        "Channel, for example stable. For a directory that holds the files themselves instead of"
        " `<channel>/<arch>/<file>`.",
        example="stable",
        live=True,
    )
    arch: str | None = setting(
        values.arch,
        "--arch A",
        "x86_64, arm64 or riscv64, or an alias. For such a directory likewise; the usual aliases are taken.",
        example="arm64",
        live=True,
    )
    # None: the date of the build
    version: str | None = setting(
        values.version,
        "--version V",
        "Image version, free text. At most 128 bytes.",
        default_words="the date of the build, `YYYY.MM.DD`",
        example="2025.11.26",
        live=True,
    )
    cmdline: str | None = setting(
        values.cmdline,
        "--cmdline S",
        "Kernel command line, signed with the rest. At most 4096 bytes.",
        example="console=ttyS0 root=/dev/vda",
        live=True,
    )
    expires_in_s: int = setting(
        values.duration_s,
        "--expires-in DURATION",
        "Validity, for example 30d or 12h. A running publisher renews a manifest when a third is left.",
        default="30d",
        name="expires_in",
        live=True,
    )
    # None: what suits each file's size, see `core.pieces.piece_length_for`
    piece_length: int | None = setting(
        values.piece_length,
        "--piece-length SIZE",
        "Length of the pieces into which artifacts are cut, a power of two from 64KiB to 16MiB. Longer where a file"
        " would have more than 65,536 pieces. What is published already is cut anew by it, under a higher"
        " `manifest_version`; without it everything keeps the cut that it has.",
        default_words="from 64KiB to 1MiB, so that new content has about 2,048 pieces",
        example="256KiB",
        live=True,
    )
    directory: Path | None = setting(values.path, "DIR", "The artifacts directory.", example="/srv/images")
    # None: nobody here vouches for what is published
    freshness_key_path: Path | None = setting(
        values.path,
        "--freshness-key FILE",
        "Key file that says every few hours what the newest manifest is, with a freshness statement. A key of its own,"
        " apart from those of the node and of what is published; it must exist. Machines believe it where their root,"
        " or `--freshness`, names it ([trust.md](trust.md)).",
        name="freshness_key",
        example="/etc/p2pboot/keys/freshness.toml",
    )
    freshness_valid_s: int = setting(
        values.freshness_validity_s,
        "--freshness-valid DURATION",
        "How long a freshness statement is valid, at least 1m. It is renewed every six hours, or when a quarter of this"
        " is over where that is sooner.",
        default="24h",
        name="freshness_valid",
        live=True,
    )
    settle_s: int = setting(
        values.duration_s,
        "--settle DURATION",
        "After a publication, for how long machines may still take what was published before. Mirrors fill meanwhile;"
        " `p2pboot publish --urgent` does not wait.",
        default="1h",
        name="settle",
        live=True,
    )
