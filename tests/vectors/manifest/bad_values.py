"""Documents with URLs, times or signers that break a rule; they are rightly signed."""

from tests.vectors.manifest.faults import (
    Faults,
    setting,
)
from tests.vectors.manifest.form import (
    A,
    B,
    Key,
    manifest,
    small,
)


def urls() -> Faults:
    for what, url in (
        ("empty", ""),
        ("relative", "/kernel"),
        ("ftp", "ftp://example.org/kernel"),
        ("file", "file:///boot/kernel"),
        ("no-host", "http:///kernel"),
        ("user", "http://me:secret@example.org/kernel"),
        ("space", "http://example.org/a b"),
        ("newline", "http://example.org/\nkernel"),
        ("ipxe-setting", "http://example.org/${net0/mac}"),
        ("quote", 'http://example.org/"'),
        ("backslash", "http://example.org\\kernel"),
        ("fragment", "http://example.org/#kernel"),
        ("non-ascii", "http://example.org/kérnel"),
        ("port", "http://example.org:65536/"),
        ("port-zero", "http://example.org:0/"),
        ("percent", "http://example.org/%zz"),
        ("upper-case", "HTTP://example.org/"),
        ("newline-at-end", "http://example.org/\n"),
    ):
        yield (
            f"url-{what}",
            setting("artifacts/kernel/urls", ["http://example.org/", url]),
            "artifacts.kernel.urls[1]:",
        )
    yield (
        "url-too-long",
        setting("artifacts/kernel/urls", ["http://h/" + "u" * 2040]),
        "artifacts.kernel.urls[0]: 2049 bytes",
    )
    yield (
        "too-many-urls",
        setting("artifacts/kernel/urls", ["http://h/"] * 17),
        "artifacts.kernel.urls: 17 are more than the 16",
    )
    yield "url-number", setting("artifacts/kernel/urls", [1]), "artifacts.kernel.urls[0]: expected `str`"
    yield (
        "urls-text",
        setting("artifacts/kernel/urls", "http://h/"),
        "artifacts.kernel.urls: expected `array`",
    )


def times() -> Faults:
    for what, time in (
        ("offset", "2025-12-26T12:00:00+00:00"),
        ("fraction", "2025-12-26T12:00:00.0Z"),
        ("lower-case", "2025-12-26t12:00:00z"),
        ("space", "2025-12-26 12:00:00Z"),
        ("date", "2025-12-26"),
        ("february-30", "2026-02-30T12:00:00Z"),
        ("leap-second", "2025-12-31T23:59:60Z"),
        ("hour-24", "2025-12-31T24:00:00Z"),
        ("year-10000", "10000-01-01T00:00:00Z"),
        ("year-1969", "1969-12-31T23:59:59Z"),
        ("junk", "soon"),
        ("arabic-digits", "٢٠٢٥-12-26T12:00:00Z"),
        ("newline", "2025-12-26T12:00:00Z\n"),
    ):
        yield f"time-{what}", setting("expires_at", time), "expires_at: time"
    yield "time-number", setting("expires_at", 1766750400), "expires_at: expected `str`"
    yield (
        "expires-when-created",
        setting("expires_at", "2025-11-26T12:00:00Z"),
        "expires_at: must be later than created_at",
    )
    yield (
        "expires-before-created",
        setting("expires_at", "2025-11-26T11:59:59Z"),
        "expires_at: must be later than created_at",
    )


def signers() -> Faults:
    def with_signers(*keyids: str) -> bytes:
        return manifest(small() | {"signers": list(keyids)}, A)

    yield "signers-none", with_signers(), "signers: 0 signers"
    first, second = sorted((A.keyid, B.keyid))
    yield (
        "signers-unsorted",
        manifest(small() | {"signers": [second, first]}, A, B),
        "signers: must be sorted",
    )
    yield (
        "signers-twice",
        manifest(small() | {"signers": [A.keyid, A.keyid]}, A, A),
        "signers: must be sorted and name nobody twice",
    )
    yield (
        "signers-33",
        manifest(small() | {"signers": sorted(Key(i).keyid for i in range(33))}),
        "signers: 33 signers",
    )
    for what, keyid in (
        ("upper-case", "ed25519:" + A.public.hex().upper()),
        ("bare", A.public.hex()),
        ("short", A.keyid[:-1]),
        ("peer-id", A.peer_id),
        ("rsa", "rsa:" + A.public.hex()),
    ):
        yield f"signer-{what}", with_signers(keyid), "signers[0]: key id"
