"""Amounts as people read them: sizes, durations and rates, in one way wherever they are shown."""

from __future__ import annotations


def size_text(size_bytes: int) -> str:
    """Bytes as people read them, powers of ten: 8388608 → "8.4 MB"."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    amount = float(size_bytes)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:  # else it would be rounded to 1000.0
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 peer", "2 peers"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration_text(seconds: float) -> str:
    """A duration in its one or two largest units: 90061 → "1 d 1 h"."""
    left = int(abs(seconds))
    if left < 60:
        return f"{left} s"
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, length)
        if amount:
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2])


def rate_text(bytes_per_s: float) -> str:
    """Bytes in a second as people read them: 8388608 → "8.4 MB/s"."""
    return f"{size_text(max(0, round(bytes_per_s)))}/s"
