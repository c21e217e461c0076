"""What snapshots cost: publishing, verifying and reading records, and a sync as a ratio to the raw stream.

python -m benchmarks.snapshots [--quick]
"""

from __future__ import annotations

import argparse
import json
import mmap
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also when run by its path

from benchmarks import processes
from benchmarks.results import MB, MIB, Table, median
from p2pboot.core.identity import SecretKey
from p2pboot.core.timetoke.chunks import payload_root
from p2pboot.core.timetoke.reader import SnapshotReader
from p2pboot.core.timetoke.records import TimetokeRecord
from p2pboot.core.timetoke.signatures import PayloadSignature
from p2pboot.publish.snapshots import TimetokeSnapshotProducer
from p2pboot.store.snapshots.disk import DiskSnapshotStore

KEY = SecretKey(bytes(range(32)))
ROOT = "7e" * 32


@dataclass(frozen=True)
class Cost:
    """One number of records: seconds, bytes of the payload, and peak memory of each process."""

    records: int
    size: int
    publish_s: float
    publish_peak: int
    verify_s: float
    read_s: float
    verify_peak: int


@dataclass(frozen=True)
class Measured:
    """Everything, for people and for `--json`."""

    costs: Sequence[Cost]
    sync_size: int
    sync_mb_per_s: float
    sync_peak: int
    raw_mb_per_s: float

    def tables(self) -> Iterator[Table]:
        rows = []
        for cost in self.costs:
            for name, seconds, peak in (
                ("publish: write, hash, sign, fsync", cost.publish_s, cost.publish_peak),
                ("verify: root and signature, mapped", cost.verify_s, cost.verify_peak),
                ("read every record from the file", cost.read_s, cost.verify_peak),
            ):
                rate = f"{cost.records / seconds:,.0f}"
                speed = f"{cost.size / MB / seconds:,.0f}"
                rows.append(
                    (f"{cost.records:,}  {name}", rate, speed, f"{seconds:.2f}", f"{peak / MIB:,.0f}")
                )
        yield Table("Snapshots", ("records", "records/s", "MB/s", "seconds", "peak MiB"), rows)
        ratio = self.sync_mb_per_s / self.raw_mb_per_s
        yield Table(
            f"Sync of {self.sync_size / MIB:.0f} MiB from one provider",
            ("", "MB/s", "ratio", "peak MiB"),
            [
                ("py-libp2p's raw stream", f"{self.raw_mb_per_s:.0f}", "1.00", ""),
                ("snapshot sync", f"{self.sync_mb_per_s:.0f}", f"{ratio:.2f}", f"{self.sync_peak / MIB:.0f}"),
            ],
            ["the sync checks every chunk, the root and the signature, and syncs it all to the disk"],
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "snapshots": {
                "costs": [vars(cost) for cost in self.costs],
                "sync_size": self.sync_size,
                "sync_mb_per_s": self.sync_mb_per_s,
                "sync_peak": self.sync_peak,
                "raw_mb_per_s": self.raw_mb_per_s,
            }
        }


def records(count: int) -> Iterator[TimetokeRecord]:
    """Records as a ledger has them: hashes as identities, large balances, few different rates."""
    for number in range(count):
        identity = f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" * 4
        yield TimetokeRecord(
            identity, number * 10**18, number, 1 - number % 100 / 1000, number, number, number
        )


def publish(directory: Path, count: int) -> dict[str, Any]:
    """Publish so many records into a store; in a process of its own, whose peak memory counts."""
    store = DiskSnapshotStore(directory)
    for _ in records(min(count, 1000)):  # imports and caches are warm
        pass
    began = time.perf_counter()
    handle = TimetokeSnapshotProducer(store, KEY).publish(records(count), ROOT)
    seconds = time.perf_counter() - began
    path = store.path(handle.root)
    return {"seconds": seconds, "path": str(path), "size": path.stat().st_size}


def verify(path: Path) -> dict[str, Any]:
    """Verify a file as a consumer does, then read every record."""
    signature = PayloadSignature.parse(path.with_name(path.name + ".sig").read_bytes())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as payload:
        began = time.perf_counter()
        payload_root(payload)
        signature.check(payload, [KEY.public])
        verified = time.perf_counter()
        count = SnapshotReader(payload).count()
        return {"verify_s": verified - began, "read_s": time.perf_counter() - verified, "records": count}


def _cost(scratch: Path, count: int) -> Cost:
    store = scratch / f"store-{count}"
    published = processes.run(["-m", "benchmarks.snapshots", "publish", str(store), str(count)])
    verified = processes.run(["-m", "benchmarks.snapshots", "verify", published.document["path"]])
    shutil.rmtree(store)
    return Cost(
        records=count,
        size=published.document["size"],
        publish_s=published.document["seconds"],
        publish_peak=published.peak_bytes,
        verify_s=verified.document["verify_s"],
        read_s=verified.document["read_s"],
        verify_peak=verified.peak_bytes,
    )


def _sync(scratch: Path, size: int, rounds: int) -> tuple[int, float, int, float]:
    """(bytes, MB/s of the sync, peak memory of the consumer, MB/s of the raw stream); medians."""
    store, key = scratch / "store", scratch / "key.toml"
    key.write_text(f'secret_key = "{KEY.seed.hex()}"\n')
    key.chmod(0o600)
    made = publish(scratch / "made", size // 240)
    command = [
        *processes.PROGRAM,
        "snapshot",
        "publish",
        made["path"],
        "--key",
        str(key),
        "--store",
        str(store),
    ]
    processes.run([*command, "--json"])
    serve = [
        *processes.PROGRAM,
        "serve",
        "--snapshots",
        str(store),
        "--key",
        str(scratch / "node.toml"),
        "-q",
    ]
    serve += ["--state", str(scratch / "state"), "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"]
    syncs, raws, peak = [], [], 0
    with (
        processes.server(["-m", "benchmarks.stock_stream", "serve"]) as stock,
        processes.server(serve) as node,
    ):
        sync = [
            *processes.PROGRAM,
            "snapshot",
            "sync",
            "--trust",
            KEY.public.keyid,
            "--bootstrap",
            node.address,
        ]
        for number in range(rounds):
            raw = processes.run(["-m", "benchmarks.stock_stream", "receive", stock.address, str(size)])
            raws.append(size / MB / raw.document["seconds"])
            out = scratch / f"out-{number}"
            done = processes.run([*sync, "--no-mdns", "--json", "-o", str(out)])
            syncs.append(made["size"] / MB / done.document["transfer_s"])
            peak = max(peak, done.peak_bytes)
            shutil.rmtree(out)
    return made["size"], median(syncs), peak, median(raws)


def measure_as_told(arguments: argparse.Namespace) -> Measured:
    """Measure as the command line says."""
    quick = bool(arguments.quick)
    with tempfile.TemporaryDirectory(prefix="p2pboot-bench-") as directory:
        scratch = Path(directory)
        costs = [_cost(scratch, count) for count in ((100_000,) if quick else (100_000, 1_000_000))]
        size, sync, peak, raw = _sync(scratch, (64 if quick else 256) * MIB, 2 if quick else 3)
    return Measured(costs, size, sync, peak, raw)


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["publish", directory, count]:
            print(json.dumps(publish(Path(directory), int(count))))
        case ["verify", path]:
            print(json.dumps(verify(Path(path))))
        case _:
            parser = argparse.ArgumentParser(prog="benchmarks.snapshots")
            parser.add_argument("--quick", action="store_true", help="less of everything")
            for table in measure_as_told(parser.parse_args(arguments)).tables():
                print(table.render())


if __name__ == "__main__":
    main(sys.argv[1:])
