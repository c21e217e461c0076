"""A stand-in for `fastecdsa`, which libp2p imports but p2pboot never uses.

libp2p needs it for ECDSA keys and secio only; p2pboot has Ed25519 keys and Noise. It has no wheels and wants
a compiler and libgmp, so a lock may leave it out. The real package is used where it is installed.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Final, NoReturn

# What libp2p 0.8.1 imports (crypto/ecc.py, crypto/key_exchange.py), with the names it takes at import time.
_MODULES: Final = {
    "fastecdsa": (),
    "fastecdsa.curve": ("Curve", "P256"),
    "fastecdsa.keys": (),
    "fastecdsa.point": ("Point",),
    "fastecdsa.encoding": (),
    "fastecdsa.encoding.sec1": ("SEC1Encoder",),
    "fastecdsa.encoding.util": ("int_bytelen",),
}


class _Missing:
    """Says what is missing as soon as anything is done with it."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        _refuse()

    def __getattr__(self, name: str) -> NoReturn:
        _refuse()


def _refuse() -> NoReturn:
    raise NotImplementedError("ECDSA keys need the fastecdsa package, which is not installed")


def install_if_missing() -> None:
    """Put the stand-in into `sys.modules`, unless fastecdsa is installed or already there."""
    if "fastecdsa" in sys.modules or importlib.util.find_spec("fastecdsa") is not None:
        return
    for name, attributes in _MODULES.items():
        module = ModuleType(name, "Stand-in: fastecdsa is not installed.")
        module.__path__ = []
        for attribute in attributes:
            setattr(module, attribute, type(attribute, (_Missing,), {}))
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
