"""Where bytes come from and go to, over five minutes: by class of who is at the other end."""

from __future__ import annotations

from typing import Final

LAN: Final = "lan"
MESH: Final = "mesh"
PUBLISHER: Final = "publisher"
HTTP: Final = "http"

CLASSES: Final = (LAN, MESH, PUBLISHER, HTTP)
"""Each byte is of one class: that of HTTP clients, else of publishers, else of near peers, else of all others."""

INTERVAL_S: Final = 5
INTERVALS: Final = 60
