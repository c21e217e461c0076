"""Text files as people's editors save them: with a byte-order mark, with CRLF, without a last newline.

For what a person writes: keys, configuration, command lines, records, detached signatures. Never for signed documents
and nothing that comes from the network: there one content has one form.
"""

from __future__ import annotations

import codecs
from typing import Final

SAVE_AS_UTF8: Final = "save it as UTF-8"
"""The remedy for what :func:`decode_text` refuses."""

_WIDE_MARKS: Final = (  # the longer ones first: UTF-16's little-endian mark begins UTF-32's
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_LOOKED_AT: Final = 64  # bytes, to recognise UTF-16 without a mark


class OtherEncoding(ValueError):
    """Text, and in an encoding that can be named."""


def decode_text(data: bytes) -> str:
    r"""Return the text of a file without byte-order mark, its lines ended by ``\n``.

    Raises:
        OtherEncoding: the message goes on from the file's name: "is saved as UTF-16".
        ValueError: likewise: "is not UTF-8 text".
    """
    for mark, name in _WIDE_MARKS:
        if data.startswith(mark):
            raise OtherEncoding(f"is saved as {name}")
    one, other = data[:_LOOKED_AT:2], data[1:_LOOKED_AT:2]
    pairs = len(data) % 2 == 0 and bool(data)
    if pairs and ((all(one) and not any(other)) or (all(other) and not any(one))):
        raise OtherEncoding("is saved as UTF-16")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
