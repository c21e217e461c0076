from benchmarks.lab import Moved, read_devices

DEVICES = """\
Inter-|   Receive            |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:  0   0 0 0 0 0 0 0    0   0 0  0 0 0 0 0
   to1: 10463176 7011 0 0 0 0 0 0   236888 3303 0 12 0 0 0 0
"""


def test_what_a_switch_takes_in_was_sent_by_the_machine() -> None:
    assert read_devices(DEVICES) == {"lo": Moved(), "to1": Moved(sent=10463176, received=236888)}


def test_what_moved_since() -> None:
    assert Moved(10, 7).since(Moved(4, 2)) == Moved(6, 5)
