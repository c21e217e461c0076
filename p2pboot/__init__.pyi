from typing import Final

from p2pboot.config.timetoke import NodeConfig as NodeConfig
from p2pboot.core.timetoke.errors import TimetokeSnapshotError as TimetokeSnapshotError
from p2pboot.core.timetoke.records import TimetokeRecord as TimetokeRecord
from p2pboot.core.timetoke.records import TimetokeSnapshotHandle as TimetokeSnapshotHandle
from p2pboot.core.timetoke.replay import NetworkPruningCommitment as NetworkPruningCommitment
from p2pboot.core.timetoke.replay import NetworkPruningEnvelope as NetworkPruningEnvelope
from p2pboot.core.timetoke.replay import NetworkPruningSegment as NetworkPruningSegment
from p2pboot.core.timetoke.replay import NetworkPruningSnapshot as NetworkPruningSnapshot
from p2pboot.core.timetoke.replay import TimetokeReplayError as TimetokeReplayError
from p2pboot.core.timetoke.replay import TimetokeReplayValidator as TimetokeReplayValidator
from p2pboot.core.timetoke.signatures import SnapshotSigningKey as SnapshotSigningKey
from p2pboot.core.timetoke.snapshot import TimetokeSnapshot as TimetokeSnapshot
from p2pboot.publish.snapshots import TimetokeSnapshotProducer as TimetokeSnapshotProducer
from p2pboot.store.snapshots.base import SnapshotStore as SnapshotStore
from p2pboot.store.snapshots.consumer import TimetokeSnapshotConsumer as TimetokeSnapshotConsumer
from p2pboot.store.snapshots.disk import DiskSnapshotStore as DiskSnapshotStore
from p2pboot.store.snapshots.memory import MemorySnapshotStore as MemorySnapshotStore

__version__: str
RELEASE_DATE: Final[int]
