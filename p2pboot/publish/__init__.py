"""Publishing: from a directory of artifacts to a signed manifest. Plain blocking code; sees no network.

:mod:`.scan` finds the artifacts, :mod:`.hashing` hashes what changed, :mod:`.build` makes the manifest.
"""
