"""What goes wrong in the store beyond the general errors; data that a caller needs is in the fields."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path

from p2pboot.errors import ArtifactError, MachineError, P2PBootError, StoreError, UsageError
from p2pboot.store.filenames import DATABASE_NAME, RECORD_NAME


class BlobGone(StoreError):
    """An artifact was held, but its bytes changed on disk; `take_damaged` names it from now on."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"artifact sha256:{digest} changed on disk since it was verified")
        self.digest = digest


class RangeError(StoreError, ValueError):
    """A read that is not inside the artifact.

    Args:
        size: of the artifact, bytes.
    """

    def __init__(self, size: int, offset: int, length: int) -> None:
        super().__init__(f"{length} bytes at offset {offset} are not inside an artifact of {size} bytes")
        self.size = size


class CounterTaken(StoreError):
    """Another process published under this number (or a higher one) meanwhile: build again with the next one.

    Args:
        counter: the highest `manifest_version` recorded.
    """

    def __init__(self, channel: str, arch: str, counter: int) -> None:
        super().__init__(
            f"{channel}/{arch}: manifest_version {counter} is already published with other content",
            remedy="build again: the next number will be used",
        )
        self.counter = counter


class StoreFull(MachineError):
    """The store's quota does not allow another artifact.

    Args:
        needed: bytes that were asked for.
        used: bytes that the store holds.
        quota: bytes that it may hold.
        remedy: what to do about it.
    """

    def __init__(
        self,
        directory: str,
        *,
        needed: int,
        used: int,
        quota: int,
        remedy: str = "raise store.quota (--quota), or follow fewer channels",
    ) -> None:
        super().__init__(
            f"no room for {needed} bytes in {directory}: {used} of its quota of {quota} bytes are used",
            remedy=remedy,
        )
        self.needed = needed
        self.used = used
        self.quota = quota


class ShareUsed(MachineError):
    """A publisher may not make this store hold more.

    Args:
        who: the publisher.
        taken: bytes that it would make the store hold.
        share: bytes that it may.
    """

    def __init__(self, who: str, *, taken: int, share: int) -> None:
        super().__init__(
            f"{who} may take {share} bytes of the store, and would take {taken}",
            remedy="raise quota in its [[trust]] entry (or store.quota, of which it has its part), or follow fewer"
            " of its channels",
        )
        self.taken = taken
        self.share = share


class NotRecorded(MachineError):
    """A manifest that may be used was not taken, because the disk does not take it down.

    Args:
        error: what the disk says.
    """

    def __init__(self, error: P2PBootError) -> None:
        super().__init__(error.message, remedy=error.remedy)


class NoState(UsageError):
    """It is no state directory.

    Args:
        path: what was named.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is no state directory: there is no database {DATABASE_NAME} in it",
            remedy="name the directory after --state; that of `fetch -o DIR` is DIR/.p2pboot",
        )


class Doubt(enum.Enum):
    """Why nobody can say for sure what a state remembers."""

    DATABASE_GONE = "{database} is gone or empty, and {record} says what was published and accepted with it"
    DATABASE_DAMAGED = "{database} is damaged"
    DATABASE_OLD = "{database} is older than {record}: what was published and accepted since is missing in it"
    RECORD_GONE = "{record} is gone, the second record of what was published and accepted with this state"
    RECORD_DAMAGED = "{record} is damaged or cut short"
    RECORD_OLD = "{record} is older than {database}"
    RECORD_NEWER = "{record} was written by a newer p2pboot"
    APART = "{database} and {record} do not belong together"
    DIFFERENT = "{database} and {record} say different things"


class MemoryInDoubt(StoreError):
    """The numbers that were given out and accepted are not for sure: going on could use one twice, or go back.

    Args:
        doubt: why.
        state: the directory.
        detail: more of it, for people; "" for nothing.
    """

    def __init__(self, doubt: Doubt, state: Path, detail: str = "") -> None:
        import shlex  # seldom needed

        what = doubt.value.format(database=state / DATABASE_NAME, record=state / RECORD_NAME)
        super().__init__(
            f"{what}{f' ({detail})' if detail else ''}; nothing is published or accepted until it is said how to go on",
            remedy=f"p2pboot state recover --state {shlex.quote(str(state))} shows what is remembered, and the ways",
        )
        self.doubt = doubt
        self.state = state


class PublisherRevoked(ArtifactError):
    """There is a root, and the keys that sign here have no say by it: nothing of it is published.

    Args:
        channel: what was to be published.
        arch: likewise.
        signers: key ids, sorted.
        is_known: whether the root is at hand.
    """

    def __init__(self, channel: str, arch: str, signers: Sequence[str], *, is_known: bool) -> None:
        who = ", ".join(signers)
        if is_known:
            message = (
                f"the root in force does not let {who} publish {channel}/{arch}: nothing of it is published"
            )
            remedy = (
                "have the fleet's owners sign a root that names this key, or publish with one that it names"
                " (--signing-key)"
            )
        else:
            message = f"whether {who} may publish {channel}/{arch} is the root's to say, which is not known here yet"
            remedy = "give the root's file (--root FILE), or see that a node of the fleet can be reached"
        super().__init__(message, remedy=remedy)
