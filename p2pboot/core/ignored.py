"""Ignored names: files that lie beside artifacts and are none, with the reason for each kind.

Half an upload that is signed is the worst that a publisher can do, and a file that a file manager left must not keep
an image from being published. So these tables say what is passed over; whoever scans a directory lists what it
passed over, because a file that is missed is found out at boot. ``docs/adr/0008-names-of-files.md`` has the reasons.

Names only; pure. Case does not count: shares and their clients do not agree on it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Final


class Reason(enum.StrEnum):
    """Why a name is passed over; stable words for scripts."""

    UNFINISHED = "unfinished"  # a tool is still writing it, or was interrupted
    BACKUP = "backup"  # an earlier state or a copy of another file
    SYSTEM = "system"  # an operating system, a file system or a share keeps it for itself
    HIDDEN = "hidden"
    COMPANION = "companion"  # describes or accompanies an image: checksums, signatures, readmes, maps
    NOT_CHOSEN = "not-chosen"  # artifacts.toml names another file for what this one would be
    OWN = "own"  # this program's own: it is read, or was written, beside artifacts


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns), re.IGNORECASE)


_IMAGE: Final = "img|raw|bin|iso|efi|dtb|tar|tgz|cpio|squashfs|sqfs|ext[234]|erofs|btrfs|gz|xz|zst|bz2|lz4"
_OWN: Final = frozenset(
    {"manifest.json", "manifest.json.sig", "freshness.json", "artifacts.toml", ".p2pboot"}
)

_UNFINISHED: Final = (
    # Uploads and downloads: browsers, WinSCP, curl and wget wrappers, cloud clients, BitTorrent, download managers.
    _any_of(
        *("*.part", "*.part.met", "*.partial", "*.filepart", "*.crdownload", "*.download", "*.opdownload"),
        *(
            "*.fdmdownload",
            "*.dtapart",
            "*.duckpart",
            "*.cyberduckpart",
            "*.cyberducksegment",
            "*.downloading",
        ),
        *(
            "*.uploading",
            "*.upload",
            "*.incomplete",
            "*.unfinished",
            "*.inprogress",
            "*.in-progress",
            "*.ongoing",
        ),
        *(
            "*.aria2",
            "*.aria2__temp",
            "*.lftp-*status*",
            "*.!qb",
            "*.!ut",
            "*.!bt",
            "*.!sync",
            "*.bc!",
            "*.az!",
        ),
        *("*.jc!", "*.ob!", "*.xltd", "*.td", "*.td.cfg", "*.gstmp", "*.octransferid*", "*.azdownload*"),
        *(".in.*", ".pureftpd-upload.*", ".rsync-partial", ".~tmp~", ".syncthing.*", "~syncthing~*"),
        *(".com.google.chrome.*", "unconfirmed *", ".unison.*", ".goutputstream-*", ".azdownload-*"),
        # Whatever writes beside and renames: temporary names, update-initramfs' "initrd.img-6.1.new", editors.
        *("*.tmp", "*.temp", "*.tmp.*", "*.temp.*", "tmp.*", "*.new", "*.swp", "*.swo", "*.swn", "*.swx"),
        *("*.kate-swp", "*.atomic", "*___jb_tmp___", "*.lock", "*.lck", ".~lock.*", "4913", ".ansible_tmp*"),
    ),
    re.compile(r"\..+\.[A-Za-z0-9]{6}", re.DOTALL),  # rsync, mktemp: .NAME.XXXXXX
    re.compile(rf".+\.(?:{_IMAGE})\.[0-9a-f]{{8}}", re.IGNORECASE | re.DOTALL),  # the AWS command line's
)

_SYSTEM: Final = (
    _any_of(
        # NAS systems (Synology, QNAP, NetApp) and their recycle bins and snapshots: @eaDir, #recycle, ~snapshot.
        *(
            "@*",
            "#recycle",
            "#snapshot",
            "~snapshot",
            ".snapshot*",
            ".zfs",
            ".glusterfs",
            "recycler",
            "recycled",
        ),
        # Windows and macOS, and what they leave on every share.
        *(
            "$*",
            "system volume information",
            "thumbs.db*",
            "ehthumbs*.db",
            "desktop.ini",
            "autorun.inf",
            "~$*",
            "found.[0-9][0-9][0-9]",
            "descript.ion",
        ),
        *("*.lnk", "*.url", "*.webloc", ".ds_store", "._*", "__macosx", "network trash folder", "icon\r"),
        *("temporary items", "thevolumesettingsfolder", ".apple*", ".trash*", ".spotlight-*", ".fseventsd"),
        # File systems and the kernel: removed files that are still open, quotas, core dumps.
        *("lost+found", ".nfs*", ".fuse_hidden*", ".smbdelete*", "aquota.*", "quota.user", "quota.group"),
        *("core.[0-9]*", "nohup.out"),
        "trans.tbl",  # a CD's table of long names
    ),
)

_BACKUP: Final = (
    _any_of(
        *("*~", "#*", "*.bak", "*.bak[0-9]", "*.bkp", "*.backup", "*.old", "*.old[0-9]", "*.orig", "*.rej"),
        *("*.save", "*.save.[0-9]", "*.saved", "*.prev", "*.previous", "*.copy", "*___jb_old___"),
        *("*.dpkg-*", "*.ucf-*", "*.rpmsave", "*.rpmnew", "*.rpmorig", "*.pacnew", "*.pacsave", "*.pacorig"),
        *(
            "*.old-dkms",
            "*.sb-????????-??????",
            "*.apk-new",
            "*_backup_*",
            "*.sync-conflict-*",
            "*conflicted copy*",
            "*case conflict*",
        ),
        # File managers: "Copy of x", "x - Copy.img", "x (copy).img", "x copy 2.img", "x (1).img".
        *(
            "copy of *",
            "copy [(]*[)] of *",
            "* - copy*",
            "* - kopie*",
            "* - copie*",
            "* - copia*",
            "* ([0-9])*",
            "* ([0-9][0-9])*",
            "* (*copy*)*",
            "* (*kopie*)*",
            "* (*copie*)*",
            "* (*copia*)*",
            "* copy*",
        ),
        # What distributions keep beside the image that is meant.
        *("vmlinuz-*-rescue-*", "initramfs-*-rescue-*", "initramfs-*-fallback.img", "initramfs-*kdump.img"),
        *("initrd-*kdump", "initrd-*kdump.img"),
    ),
)

_BACKUP_FILE: Final = (
    # "rootfs_old.squashfs", "vmlinuz-backup", and "backup.img" of anything; a channel may be called "previous".
    re.compile(
        r"(?:.*[-_.])?(?:old|bak|backup|orig|copy|prev|previous)(?:\.[A-Za-z][A-Za-z0-9]*)*",
        re.IGNORECASE | re.DOTALL,
    ),
    # wget's second download: "rootfs.squashfs.1". A digit after anything else may well be a version.
    re.compile(rf".+\.(?:{_IMAGE})\.[0-9]{{1,3}}", re.IGNORECASE | re.DOTALL),
)

_COMPANION: Final = _any_of(
    # Checksums and signatures.
    *(
        "*sums",
        "*sums.*",
        "*.sum",
        "*.sha1*",
        "*.sha2*",
        "*.sha384*",
        "*.sha512*",
        "*.md5*",
        "*.b2",
        "*.b2sum",
    ),
    *("*.b3", "*.b3sum", "*.blake2*", "*.blake3", "*.crc", "*.crc32", "*.sfv", "*checksum*", "*.digest"),
    *("*.digests", "digests", "md5sum*", "sha*sum*", "*.asc", "*.sig", "*.sign", "*.signature", "*.gpg"),
    *("*.minisig", "*.sigstore", "*.sigstore.json", "*.p7s", "*.dsse", "*.intoto*", "*.provenance", "*.hmac"),
    # Texts.
    *("readme*", "*.md", "*.rst", "*.adoc", "*.nfo", "*.pdf", "*.htm", "*.html", "license*"),
    *("licence*", "copying*", "copyright*", "notice", "notice.*", "changelog*", "changes", "news", "authors"),
    *("todo", "version", "release-notes*", "release_notes*", "buildinfo*", "build-info*", "*.buildinfo"),
    # What a kernel's and an image's build leaves: symbols, configuration, lists of what is in it.
    *("system.map*", "*.map", "*.bmap", "config", "config-*", "*.config", "config.gz", "symvers*", "abi-*"),
    *("module.symvers*", "*.symvers*", "*.debug", "*.manifest", "*.manifest-*", "*.packages", "*.packages-*"),
    *("*.size", "sysctl.conf-*", "*.list", "*.log", "*.spdx*"),
    *("*.sbom*", "*.cdx.json", "*.torrent", "*.zsync", "*.metalink", "*.meta4", "*.jigdo"),
    # A boot loader's own files in a /boot directory.
    *("*.scr", "boot.cmd", "uenv.*", "uinitrd*", "memtest86*"),
)
_TEXT: Final = ".txt"
_LOADER_DIRECTORIES: Final = _any_of(
    "grub", "grub2", "efi", "loader", "extlinux", "syslinux", "isolinux", "pxelinux.cfg", "memtest86*"
)
_NO_COMPANION: Final = (
    "cmdline.txt"  # somebody means the command line: passed over, it would be missing at boot
)


def why_not_a_place(name: str) -> Reason | None:
    """Why a directory above the artifacts is no channel and no architecture, or None if it may well be one."""
    if name in _OWN:
        return Reason.OWN
    for reason, patterns in (
        (Reason.UNFINISHED, _UNFINISHED),
        (Reason.SYSTEM, _SYSTEM),
        (Reason.BACKUP, _BACKUP),
    ):
        if _matches(name, patterns):
            return reason
    return Reason.HIDDEN if name.startswith(".") else None


def why_ignored(name: str, *, among_device_trees: bool = False) -> Reason | None:
    """Why a file beside artifacts is no artifact unless it is named as one, or None if it may well be one.

    Args:
        name: of the file.
        among_device_trees: it lies in their directory, where any text but a readme or the like may be meant for a boot
            loader (which overlays to apply), and is asked about.
    """
    reason = why_not_a_place(name)
    if reason is not None:
        return reason
    if _matches(name, _BACKUP_FILE):
        return Reason.BACKUP
    if name.lower() == _NO_COMPANION:
        return None
    is_text = name.lower().endswith(_TEXT) and not among_device_trees
    return Reason.COMPANION if is_text or _COMPANION.fullmatch(name) else None


def why_ignored_directory(name: str) -> Reason | None:
    """The same for a directory that lies beside artifacts."""
    reason = why_not_a_place(name)
    if reason is None and _LOADER_DIRECTORIES.fullmatch(name):
        return Reason.COMPANION
    return reason


def _matches(name: str, patterns: Iterable[re.Pattern[str]]) -> bool:
    return any(pattern.fullmatch(name) for pattern in patterns)
