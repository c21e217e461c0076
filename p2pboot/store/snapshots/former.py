"""Takes over what earlier versions kept in a snapshot directory as files of their own.

::

    .p2pboot/announcements/<root>.<signer>.json   now rows of the database; removed once they are
    .p2pboot/conflicts/<sequence>.<16 hex>.json   now rows, too; the files stay, they are for people
    .p2pboot/whole/<root>                         complete and not verified; now on its way again, and complete
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from p2pboot.core.events import Event
from p2pboot.core.timetoke.agreement import Conflict
from p2pboot.core.timetoke.announcement import MAX_ANNOUNCEMENT, Announcement
from p2pboot.errors import MachineError, Malformed, SignatureError
from p2pboot.store.announcements import Announcements
from p2pboot.store.ownership import STATE, check_real_directory, opened_state
from p2pboot.store.reading import open_regular

logger = logging.getLogger(__name__)


def take_over(private: Path, announcements: Announcements) -> None:
    """Bring what is there into the present form; nothing happens where there is nothing.

    Args:
        private: the directory that is ours in a snapshot directory.
        announcements: get the documents, all or none.

    Raises:
        MachineError, StoreError: the database can not be written or is damaged; the files are as they were.
    """
    former = private / "announcements"
    if former.is_dir():
        found = list(_documents(former))
        announcements.put_all(
            [one for _, one in found], list(_conflicts(one for _, one in _documents(private / "conflicts")))
        )
        with (
            contextlib.suppress(OSError, MachineError),
            opened_state(private),
        ):  # else read again the next time
            for path, _ in found:
                path.unlink()
            (former / "lock").unlink(missing_ok=True)
            former.rmdir()
    with contextlib.suppress(OSError, MachineError), opened_state(private):
        check_real_directory(private / "whole", STATE)
        check_real_directory(private / "partial", STATE)
        for path in sorted((private / "whole").iterdir()):
            path.rename(private / "partial" / path.name)
        (private / "whole").rmdir()


def _documents(directory: Path) -> Iterator[tuple[Path, Announcement]]:
    """The announcements in a directory; what is none is left alone."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(directory)):
            path = directory / name
            try:
                with open(open_regular(path), "rb") as file:
                    yield path, Announcement.parse(file.read(MAX_ANNOUNCEMENT + 1))
            except (OSError, Malformed, SignatureError) as error:
                if name != "lock":
                    logger.warning(
                        "%s is no announcement and is not offered: %s",
                        path,
                        error,
                        extra=Event.DAMAGED(content=str(path)),
                    )


def _conflicts(documents: Iterator[Announcement]) -> Iterator[Conflict]:
    by_sequence: defaultdict[int, list[Announcement]] = defaultdict(list)
    for one in documents:
        by_sequence[one.sequence].append(one)
    for sequence, found in sorted(by_sequence.items()):
        for one, other in itertools.combinations(found, 2):
            if one.subject != other.subject:
                yield Conflict(sequence, one, other)
