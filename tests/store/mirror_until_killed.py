"""Run by `test_kills`: brings versions in, places outputs, moves heads and clears up until somebody kills it.

Prints a line after every step that has to survive, once it is durable.
"""

from __future__ import annotations

import sys
from pathlib import Path

from p2pboot.fetch.placing.staging import Staging
from p2pboot.store.durable import write_file
from p2pboot.store.store import Store
from p2pboot.testing.artifacts import PIECE, Sample, sample
from tests.store.samples import manifest


def samples(version: int) -> tuple[Sample, ...]:
    """Of each version the kernel is new and the initramfs changes every other time."""
    return sample(6 * PIECE + version, version), sample(2 * PIECE, 1000 + version // 2, key="initramfs")


def say(*words: object) -> None:
    print(*words, flush=True)


def main(state: Path, output: Path, first: int) -> None:
    with Store.open(state) as store:
        store.lock()
        say("opened")
        version = first
        while True:
            chosen = samples(version)
            made = manifest(version, *chosen)
            store.manifests.put(made, None)
            store.trust.accept(made)
            say("accepted", version)
            with Staging() as staging:
                for each in chosen:
                    fetch(store, each)
                    staging.link(store.blobs.path(each.sha256), output / each.artifact.key)
                staging.place()
            store.manifests.set_head(made.digest)
            write_file(output / "manifest.json", made.raw)
            say("head", version)
            store.manifests.retain()
            version += 1


def fetch(store: Store, chosen: Sample) -> None:
    partial = store.blobs.begin(chosen.sha256, chosen.table)
    if partial is not None:
        for index in partial.held.missing():
            partial.write(index, chosen.piece(index))
            partial.hash_on(PIECE)
        partial.finish()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
