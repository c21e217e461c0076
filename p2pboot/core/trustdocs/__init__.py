"""Trust documents: what beyond manifests decides whom and what to believe. Formats in ``docs/protocol.md``.

A *root* says whose signatures count (:mod:`.root`, and :mod:`.chain` from one version to the next), a *freshness
statement* what the newest manifest is (:mod:`.freshness`), a *yank* what shall not be booted any more (:mod:`.yank`).
All have one form, :mod:`.envelope`: canonical JSON (RFC 8785) with a member ``signatures``.
"""
