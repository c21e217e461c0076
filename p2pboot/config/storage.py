"""What a node keeps on this machine: the settings of `[store]`, `[snapshots]` and `[log]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from p2pboot.config import values
from p2pboot.config.setting import setting
from p2pboot.core.dataclass import dataclass
from p2pboot.errors import ConfigError

if TYPE_CHECKING:
    from p2pboot.core.policy import Publisher  # 10 ms that `--help` need not pay


_EXAMPLE_KEY = "ed25519:8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where the node keeps its state, and what it may keep there (a quota of None: unlimited)."""

    # None: where the platform wants it
    chosen: Path | None = setting(
        values.path,
        "--state DIR",
        "State directory. Catalogue, hash cache, trust state, fetched artifacts, control socket. Where"
        " there is no home it must be named.",
        name="state",
        shown="known",
        default_words="the user's, by the platform's convention; on Linux `~/.local/state/p2pboot`",
        example="/var/lib/p2pboot",
    )
    quota_bytes: int | Literal["auto"] | None = setting(
        values.quota_bytes,
        "--quota SIZE",
        "Most that the state directory may hold, for example 20GB; a tenth of the disk stays free unless you say."
        " Fetched artifacts count by their sizes, though holes in them take no room; a publisher's own files are"
        " served where they lie and do not count. Followed snapshots may take as much again in their directory."
        ' `"auto"` counts what the disk has left instead, `"unlimited"` takes all of it.',
        default="auto",
        default_words='`"auto"`: what leaves a tenth of the file system free',
        name="quota",
        example="50GB",
        live=True,
    )
    keep: int = setting(
        values.kept_versions,
        "--keep N",
        "How many versions of an image to keep, 1 or 2. With 2 the version before stays beside the one that is"
        " offered, and yields where a next one finds no room. With 1 the one that is offered yields, too, once"
        " somebody gave a piece of the next one: nothing is offered then until that is whole.",
        default=2,
        live=True,
    )
    max_artifact_bytes: int = setting(
        values.bounded_size_bytes,
        "--max-artifact SIZE",
        "Largest artifact or snapshot to mirror. A trusted publisher's manifest with a larger artifact is not mirrored,"
        " nor is a larger snapshot that trusted signers announce.",
        default="64GiB",
        name="max_artifact",
        example="10GB",
        live=True,
    )

    @property
    def known(self) -> Path | None:
        """The state directory; None where none was named and the platform has no place for it."""
        return self.chosen or default_state()

    @property
    def state(self) -> Path:
        """The state directory, for a command that can not do without.

        Raises:
            ConfigError: none was named, and this user has no home where it could be.
        """
        known = self.known
        if known is None:
            raise ConfigError(
                "no state directory is known: none was named, and this user has no home directory",
                remedy="name one with --state DIR, or as state in the file's [store]",
            )
        return known


def default_state() -> Path | None:
    """Where the platform wants programs to keep their state (XDG_STATE_HOME on Linux); None without a home."""
    from platformdirs import user_state_path  # 25 ms that most commands need not pay

    try:
        path = user_state_path("p2pboot", appauthor=False)
    except RuntimeError:
        return None
    return path if path.is_absolute() else None  # older platformdirs give `~` back, and take a relative HOME


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSettings:
    """The Timetoke snapshots that are served, and whose are followed.

    Raises:
        ConfigError: a threshold that the trusted keys can not reach.
    """

    # None: none are served
    directory: Path | None = setting(
        values.path,
        "--snapshots DIR",
        "Serve the Timetoke snapshots in this directory. It is also the store of `snapshot publish`,"
        " `list` and `show`, unless `--store` names another.",
        example="/srv/snapshots",
        top_level="snapshot_dir",
    )
    key_path: Path = setting(
        values.path,
        "--key PATH",
        "Key file that signs what `snapshot publish` publishes; made when there is none. No node uses it.",
        default="keys/timetoke_snapshot.toml",
        command="snapshot publish",
        default_words="`keys/timetoke_snapshot.toml` in the working directory",
        example="/etc/p2pboot/keys/timetoke_snapshot.toml",
        top_level="timetoke_snapshot_key_path",
    )
    # empty: nobody is followed
    trust: tuple[str, ...] = setting(
        values.key_ids,
        "--snapshot-trust KEYID",
        "Follow the snapshots that this key announces. They are fetched into the directory and served on.",
        default=[],
        example=[_EXAMPLE_KEY],
    )
    threshold: int = setting(
        values.integer,
        "--snapshot-threshold N",
        "How many of these keys must announce the same snapshot.",
        default=1,
    )
    require_signatures: bool = setting(
        values.boolean,
        "--require-signatures",
        "Refuse to serve snapshots without signature. Use it in production.",
        default=False,
        example=True,
    )

    def __post_init__(self) -> None:
        if self.trust and not 1 <= self.threshold <= len(self.trust):
            raise ConfigError(
                f"snapshots: {self.threshold} signatures can not come from {len(self.trust)} keys",
                remedy=f"set its threshold from 1 to {len(self.trust)}, or name more keys",
            )

    @property
    def trusted(self) -> Publisher | None:
        """The keys with their threshold; None where nobody is followed."""
        from p2pboot.core.policy import Publisher

        return Publisher(self.trust, self.threshold) if self.trust else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What the node writes down of what happens."""

    format: values.LogForm = setting(
        values.log_form,
        "--log-format FORM",
        "Form of the log on standard error: auto, text, json or journal. `json` is an object a line, `journal` has"
        " priorities for systemd's journal, and `auto` is that where standard error is the journal, else text"
        " ([logs.md](logs.md)).",
        default="auto",
        example="json",
    )
    # None: in the state directory
    audit: Path | Literal["off"] | None = setting(
        values.audit_log,
        "--audit-log FILE",
        "File that takes down what was published, accepted and refused, and by whose key; off for none. JSON, a line"
        " each; at 10 MB it gets the ending .1, and four former ones are kept ([logs.md](logs.md#the-audit-log)).",
        default_words="`audit.log` in the state directory",
        example="/var/log/p2pboot/audit.log",
    )
