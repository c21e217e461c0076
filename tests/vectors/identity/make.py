"""Make the key files of this directory. These keys are known to everyone: they are for tests only.

Where they come from:

- ``libp2p-64``: the Ed25519 private key among the test vectors of the libp2p specification
  (https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#test-vectors); its 64 bytes are seed and
  public key, so it carries its own expectation. ``libp2p-96`` (the older form), ``raw``, ``hex`` and
  ``node.toml`` are the same key in other forms, written by this script without any code of p2pboot.
- ``pkcs8-v2.pem``: the second example of RFC 8410, section 10.3 (with attributes and the public key).
- ``openssh*``: ``ssh-keygen`` of OpenSSH 9.2; ``pkcs8.pem``, ``pkcs8-encrypted.pem``, ``pkcs8-x25519.pem``,
  ``spki.pem``: ``openssl`` 3.0.19. They draw random keys, so ``make.py --foreign`` makes *new* ones.
  Both passphrases are ``vector``.
- ``expected.json``: file name → public key as 64 hex digits, where it can be read without p2pboot: from what
  ``ssh-keygen`` and ``openssl`` print, from the specification, from the RFC.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LIBP2P = bytes.fromhex(
    "08011240"
    "7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d"
    "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
)
SEED, PUBLIC = LIBP2P[4:36], LIBP2P[36:]
RFC_8410_PUBLIC = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
RFC_8410 = """\
-----BEGIN PRIVATE KEY-----
MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB
Z9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PRIVATE KEY-----
"""


def make_known() -> None:
    (HERE / "libp2p-64").write_bytes(LIBP2P)
    (HERE / "libp2p-96").write_bytes(bytes.fromhex("08011260") + SEED + PUBLIC + PUBLIC)
    (HERE / "raw").write_bytes(SEED)
    (HERE / "hex").write_text(SEED.hex() + "\n")
    toml = f'version = 1\nsecret_key = "{SEED.hex()}"\npublic_key = "{PUBLIC.hex()}"\n'
    (HERE / "node.toml").write_text(toml)
    (HERE / "pkcs8-v2.pem").write_text(RFC_8410)


def run(*command: str) -> bytes:
    return subprocess.run(command, cwd=HERE, check=True, capture_output=True).stdout


def make_foreign() -> None:
    for path in HERE.glob("openssh*"):
        path.unlink()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "p2pboot test vector", "-f", "openssh")
    run(
        "ssh-keygen",
        "-q",
        "-t",
        "ed25519",
        "-N",
        "vector",
        "-C",
        "p2pboot test vector",
        "-f",
        "openssh-passphrase",
    )
    run(
        "ssh-keygen",
        "-q",
        "-t",
        "rsa",
        "-b",
        "2048",
        "-N",
        "",
        "-C",
        "p2pboot test vector",
        "-f",
        "openssh-rsa",
    )
    for name in ("openssh-passphrase.pub", "openssh-rsa.pub"):
        (HERE / name).unlink()
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", "pkcs8.pem")
    run("openssl", "pkey", "-in", "pkcs8.pem", "-pubout", "-out", "spki.pem")
    encrypt = ("-topk8", "-in", "pkcs8.pem", "-passout", "pass:vector", "-out", "pkcs8-encrypted.pem")
    run("openssl", "pkcs8", *encrypt)
    run("openssl", "genpkey", "-algorithm", "x25519", "-out", "pkcs8-x25519.pem")


def expected() -> dict[str, str]:
    openssl = base64.b64decode("".join((HERE / "spki.pem").read_text().splitlines()[1:-1]))[-32:].hex()
    openssh = base64.b64decode((HERE / "openssh.pub").read_text().split()[1])[-32:].hex()
    same_key = dict.fromkeys(("libp2p-64", "libp2p-96", "raw", "hex", "node.toml"), PUBLIC.hex())
    return same_key | {
        "pkcs8-v2.pem": RFC_8410_PUBLIC,
        "pkcs8.pem": openssl,
        "pkcs8-encrypted.pem": openssl,
        "openssh": openssh,
    }


if __name__ == "__main__":
    make_known()
    if "--foreign" in sys.argv:
        make_foreign()
    (HERE / "expected.json").write_text(json.dumps(expected(), indent=2) + "\n")
