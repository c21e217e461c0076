"""A request as the routes see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from p2pboot.core.dataclass import dataclass
from p2pboot.core.origins import Party

Fields = Mapping[str, Sequence[str]]
"""Header fields by lower-case name, of each the values in the order of the lines."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The addresses of a connection: of the client, without its port, and our own; and whose it is."""

    client: str
    own: tuple[str, int]
    party: Party


@dataclass(frozen=True, slots=True)
class Request:
    """GET or HEAD of a sensible path.

    Args:
        method: GET or HEAD.
        path: in the one form that `paths.plain_path` makes.
        fields: as they came; bytes that are not ASCII as Latin-1.
        host: how the client calls us; None for HTTP/1.0 without the field.
        ends: of the connection.
        query: what stands after the path, as it came; "" for none.
    """

    method: str
    path: str
    fields: Fields
    host: str | None
    ends: Ends
    query: str = field(default="", repr=False)  # may name a machine, and is for no log

    @property
    def hosts(self) -> set[str]:
        """All that the client calls us: in the request line, and in the field, which may say something else."""
        return {*self.values("host"), *([] if self.host is None else [self.host])}

    def values(self, name: str) -> Sequence[str]:
        """The values of a header field, by its lower-case name."""
        return self.fields.get(name, ())
