"""The gateway of real nodes, asked by the clients that people use."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p2pboot.core.manifest import Manifest
from p2pboot.testing.processes import LOOPBACK, PYTHON, Mesh, Node, environment, first_line
from p2pboot.testing.waiting import HANG_S, wait_until
from tests.integration.images import write_artifacts

GATEWAY = ("--http", "127.0.0.1:0")
LEAF = Path("stable") / "x86_64"


def base_of(node: Node) -> str:
    return str(node.status()["http"][0])


def get(url: str) -> bytes:
    with urllib.request.urlopen(url) as reply:
        return bytes(reply.read())


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a client; where it is not installed, say so and skip."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed here (Debian: {'aria2' if name == 'aria2c' else name})")
    return subprocess.run([name, *arguments], capture_output=True, text=True, timeout=HANG_S, check=False)


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return tool("curl", "--silent", "--show-error", "--noproxy", "*", *arguments)


@pytest.fixture
def publisher(mesh: Mesh, artifacts: Path) -> Node:
    node = mesh.serve(artifacts, *GATEWAY, "--cmdline", "console=ttyS0")
    node.wait_for_head(1)
    return node


def test_mirror_serves_the_publishers_bytes_to_curl(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address, *GATEWAY)
    mirror.wait_for_head(1)
    assert publisher.stop() == 0
    base = base_of(mirror)
    for name, source in (
        ("kernel", "vmlinuz-6.1"),
        ("initramfs", "initrd.img"),
        ("rootfs", "rootfs.squashfs"),
    ):
        for path in (name, f"stable/x86_64/{name}"):
            done = curl("--fail", "-o", str(mesh.directory / "got"), f"{base}/{path}")
            assert done.returncode == 0, done.stderr
            assert (mesh.directory / "got").read_bytes() == (artifacts / LEAF / source).read_bytes()
    admin = mirror.status()["admin"]
    status = json.loads(get(f"{admin}/status"))
    assert sum(one["received"] for one in status["traffic"]) > 4 << 20
    assert (
        'p2pboot_peer_bytes_total{direction="received",protocol="/p2pboot/artifact/1"}'
        in get(f"{admin}/metrics").decode()
    )


def test_curl_resumes_and_asks_for_ranges(mesh: Mesh, artifacts: Path, publisher: Node) -> None:
    whole = (artifacts / LEAF / "rootfs.squashfs").read_bytes()
    url, got = f"{base_of(publisher)}/rootfs", mesh.directory / "got"
    for begun in (0, 1, 1_000_003, len(whole) - 1):
        got.write_bytes(whole[:begun])
        done = curl("--fail", "-C", "-", "-o", str(got), url)
        assert done.returncode == 0, done.stderr
        assert got.read_bytes() == whole
    for wanted, expected in (
        ("0-99", whole[:100]),
        ("-100", whole[-100:]),
        ("1048575-1048576", whole[1048575:1048577]),
    ):
        assert curl("--fail", "-r", wanted, "-o", str(got), url).returncode == 0
        assert got.read_bytes() == expected
    refused = curl("-o", str(got), "-w", "%{http_code} %header{content-range}", "-r", f"{len(whole)}-", url)
    assert refused.stdout == f"416 bytes */{len(whole)}"


def test_curl_that_wishes_for_http2_gets_http1(publisher: Node) -> None:
    done = curl(
        "--http2", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", f"{base_of(publisher)}/kernel"
    )
    assert done.stdout == "200 1.1"


def test_aria2_downloads_over_four_connections(mesh: Mesh, artifacts: Path, publisher: Node) -> None:
    arguments = ["--no-conf", "-q", "-x4", "-s4", "-k1M", "--dir", str(mesh.directory), "-o", "got"]
    done = tool("aria2c", *arguments, f"{base_of(publisher)}/rootfs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (mesh.directory / "got").read_bytes() == (artifacts / LEAF / "rootfs.squashfs").read_bytes()


def test_manifest_names_the_gateway_and_is_what_the_script_boots(publisher: Node) -> None:
    base = base_of(publisher)
    manifest = Manifest.parse(get(f"{base}/manifest.json"))
    for artifact in manifest.artifacts.values():
        assert artifact.urls == (f"{base}/blobs/{artifact.sha256}",)
        assert hashlib.sha256(get(artifact.urls[0])).hexdigest() == artifact.sha256
    script = get(f"{base}/boot.ipxe").decode()
    assert script.startswith("#!ipxe\n")
    assert "console=ttyS0" in script
    for key in ("kernel", "initramfs"):
        assert f"{base}/blobs/{manifest.artifacts[key].sha256}" in script


def test_advertised_addresses_go_into_the_manifest(mesh: Mesh, artifacts: Path) -> None:
    bases = ["http://boot-1.example:8080", "https://boot-2.example/images"]
    advertise = [word for base in bases for word in ("--advertise-http", base + "/")]
    node = mesh.serve(artifacts, *advertise)  # works without a gateway of its own: the bases may be mirrors'
    node.wait_for_head(1)
    done = mesh.fetch(mesh.keyid("publisher"), mesh.directory / "out", node.address)
    assert done.status == 0, done.stderr
    manifest = Manifest.parse((mesh.directory / "out" / "manifest.json").read_bytes())
    kernel = manifest.artifacts["kernel"]
    assert kernel.urls == tuple(f"{base}/blobs/{kernel.sha256}" for base in bases)


def test_mirror_keeps_the_former_blobs_during_an_update(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    publisher = mesh.serve(artifacts)
    mirror = mesh.mirror(trust, "--bootstrap", publisher.address, *GATEWAY)
    mirror.wait_for_head(1)
    base = base_of(mirror)
    former = [word for word in get(f"{base}/boot.ipxe").decode().split() if word.startswith("http://")]
    before = [get(url) for url in former]
    write_artifacts(artifacts, seed=2)
    assert mesh.run("publish", "--state", str(publisher.state)).status == 0
    mirror.wait_for_head(2)
    assert get(f"{base}/kernel") != before[0]
    assert [get(url) for url in former] == before


def test_port_in_use_ends_the_command_before_it_prints_anything(mesh: Mesh, artifacts: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = mesh.run(
            "serve", str(artifacts), "--http", address, "--no-mdns", "--state", "s", "--key", "k.toml"
        )
    assert done.status == 4
    assert done.stdout == ""
    assert f"listen for HTTP on {address}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (mesh.directory / "k.toml").exists()


@pytest.mark.parametrize("http", ["8080", "localhost", "127.0.0.1:99999", "a b:80", "::1:80"])
def test_wrong_address_is_wrong_usage(mesh: Mesh, artifacts: Path, http: str) -> None:
    done = mesh.run("serve", str(artifacts), "--http", http)
    assert done.status == 2
    assert "--http: must be HOST:PORT" in done.stderr


def test_configuration_file_opens_the_gateway(mesh: Mesh, artifacts: Path) -> None:
    configuration = mesh.directory / "node.conf.toml"
    configuration.write_text('[gateway]\nhttp = "127.0.0.1:0"\nadvertise_http = ["http://boot.example"]\n')
    node = mesh.serve(artifacts, "--config", str(configuration))
    assert node.status()["http"] == ["http://boot.example"]
    assert "HTTP gateway at http://127.0.0.1:" in node.log.read_text()


def test_node_ends_at_once_whatever_its_clients_do(publisher: Node) -> None:
    port = int(base_of(publisher).rpartition(":")[2])
    clients = []
    try:
        for request in (b"", b"GET /rootfs HTTP/1.1\r\n", b"GET /rootfs HTTP/1.1\r\nHost: x\r\n\r\n"):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(request)
            clients.append(client)
        assert clients[2].recv(1)
        assert publisher.stop(signal.SIGTERM) == 0
        assert "Traceback" not in publisher.log.read_text()
    finally:
        for client in clients:
            client.close()


def test_without_http_nothing_of_it_is_imported() -> None:
    code = "import sys, p2pboot.cli.node, p2pboot.node.run; sys.exit('p2pboot.gateway' in sys.modules)"
    done = subprocess.run([PYTHON[0], "-c", code], env=environment(), check=False, timeout=HANG_S)
    assert done.returncode == 0


def test_gateway_announces_itself(mesh: Mesh, artifacts: Path) -> None:
    """As a user starts it, with mDNS on; the machine may have no network but loopback."""
    from zeroconf import IPVersion, ServiceBrowser, ServiceListener, Zeroconf

    found: dict[int, dict[str, Any]] = {}

    class Listener(ServiceListener):
        def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            info = zc.get_service_info(type_, name, timeout=int(HANG_S * 1000))
            if info is not None and info.port is not None:
                found[info.port] = info.decoded_properties

        def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            self.add_service(zc, type_, name)

        def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            pass

    try:
        zeroconf = Zeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    except OSError as error:
        pytest.skip(f"no multicast on this machine: {error}")
    browser = ServiceBrowser(zeroconf, "_phase-image._tcp.local.", Listener())
    try:
        state, log = mesh.directory / "state", mesh.directory / "log"
        command = [
            *PYTHON,
            "serve",
            str(artifacts),
            *GATEWAY,
            "--key",
            "k.toml",
            "--state",
            str(state),
            "--listen",
            LOOPBACK,
        ]
        process = mesh.start(command, log)
        node = Node(process, first_line(process, log), state, log)
        port = int(base_of(node).rpartition(":")[2])
        wait_until(lambda: port in found, "the announcement")
        assert found[port]["channel"] == "stable"
        assert found[port]["arch"] == "x86_64"
        assert found[port]["http_port"] == str(port)
        assert node.stop() == 0
    finally:
        browser.cancel()
        zeroconf.close()


# --- behind nginx, as docs/gateway.md has it


@dataclass(frozen=True)
class Proxy:
    """An nginx with TLS in front of a gateway."""

    base: str
    certificate: Path


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def nginx_configuration(gateway: str, port: int, certificate: Path, key: Path) -> str:
    """The documented one with this machine's addresses, and a second time under `/images/`."""
    text = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
    server = text.partition("```nginx\n")[2].partition("```")[0]
    for documented, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("boot.example.net;", "localhost;"),
        ("/etc/ssl/certs/boot.example.net.pem", str(certificate)),
        ("/etc/ssl/private/boot.example.net.key", str(key)),
        ("http://192.0.2.7:8080", gateway),
    ):
        assert documented in server, documented
        server = server.replace(documented, here)
    location = server[server.index("    location / {") : server.rindex("}")]
    images = location.replace("location /", "location /images/").replace('Prefix ""', "Prefix /images")
    server = f"{server[: server.rindex('}')]}{images}}}\n"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path temporary;\n" for kind in kinds)
    return (
        "daemon off;\npid nginx.pid;\nerror_log stderr;\nevents {}\n"
        f"http {{\naccess_log off;\n{places}{server}}}\n"
    )


@pytest.fixture
def proxied(mesh: Mesh) -> Callable[[Node], Proxy]:
    """Starts the documented nginx in front of a node; its certificate is of `localhost`."""
    nginx = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed here (Debian: nginx)")
    directory = mesh.directory / "nginx"
    directory.mkdir()

    def start(node: Node, behind: str = "") -> Proxy:
        key, certificate, port = directory / "key.pem", directory / "certificate.pem", free_port()
        made = tool(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2",
            "-keyout", str(key), "-out", str(certificate),
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        configuration = nginx_configuration(behind or gateway_of(node), port, certificate, key)
        (directory / "nginx.conf").write_text(configuration)
        process = mesh.start(
            [nginx, "-p", str(directory), "-e", "stderr", "-c", "nginx.conf"], directory / "log"
        )

        def is_up() -> bool:
            assert process.poll() is None, (directory / "log").read_text()
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        wait_until(is_up, "nginx")
        return Proxy(f"https://localhost:{port}", certificate)

    return start


def gateway_of(node: Node) -> str:
    """Where the gateway listens, whatever is advertised."""
    (address,) = re.findall(r"HTTP gateway at (http://127\.0\.0\.1:\d+)", node.log.read_text())
    return str(address)


def urls_of(script: str) -> list[str]:
    return [word for word in script.split() if "://" in word]


@pytest.mark.parametrize("trusted", [True, False])
def test_who_boots_behind_a_proxy_is_who_the_trusted_one_says(
    mesh: Mesh, artifacts: Path, proxied: Callable[[Node], Proxy], trusted: bool
) -> None:
    node = mesh.serve(artifacts, *GATEWAY, "--trusted-proxy", "127.0.0.1/32" if trusted else "192.0.2.1/32")
    node.wait_for_head(1)
    proxy = proxied(node)
    machine = ("--interface", "127.0.0.5", "-H", "X-Forwarded-For: 198.51.100.1", "-o", "/dev/null")
    done = curl("--fail", "--cacert", str(proxy.certificate), *machine, f"{proxy.base}/kernel")
    assert done.returncode == 0, done.stderr
    (client,) = node.status()["clients"]
    assert client["address"] == ("127.0.0.5" if trusted else "127.0.0.1")


@pytest.mark.parametrize("allowed", [False, True])
def test_a_proxy_on_this_machine_shows_the_status_page_only_where_it_is_named(
    mesh: Mesh, artifacts: Path, proxied: Callable[..., Proxy], allowed: bool
) -> None:
    """Behind it everybody is 127.0.0.1, and whatever a client says of himself changes nothing."""
    node = mesh.serve(artifacts, *(("--admin-allow", "127.0.0.1") if allowed else ()))
    proxy = proxied(node, node.status()["admin"])
    for path in ("", "status", "metrics"):
        for said in (
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-For;",
            "Forwarded: for=127.0.0.1",
            "Host: 127.0.0.1",
        ):
            code = ("-o", "/dev/null", "-w", "%{http_code}", "-H", said)
            done = curl("--cacert", str(proxy.certificate), *code, f"{proxy.base}/{path}")
            assert done.stdout == ("200" if allowed else "403"), (path, said)


@pytest.mark.parametrize("where", ["", "/images"])
def test_machine_behind_tls_gets_urls_that_lead_through_it(
    mesh: Mesh, artifacts: Path, proxied: Callable[[Node], Proxy], where: str
) -> None:
    node = mesh.serve(artifacts, *GATEWAY, "--trusted-proxy", "127.0.0.0/8")
    node.wait_for_head(1)
    proxy = proxied(node)
    base = proxy.base + where

    def through(*arguments: str) -> str:
        done = curl("--fail", "--cacert", str(proxy.certificate), *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    lies = (
        "-H",
        "X-Forwarded-Host: evil.example",
        "-H",
        "X-Forwarded-Prefix: /evil",
        "-H",
        "Forwarded: host=evil.example",
    )
    script = through(*lies, f"{base}//boot.ipxe")
    kernel, initramfs = urls_of(script)
    assert kernel.startswith(f"{base}/blobs/")
    got = mesh.directory / "got"
    for url, source in ((kernel, "vmlinuz-6.1"), (initramfs, "initrd.img")):
        through("-o", str(got), url)
        assert got.read_bytes() == (artifacts / LEAF / source).read_bytes()
    whole = (artifacts / LEAF / "rootfs.squashfs").read_bytes()
    got.write_bytes(whole[:1_000_003])
    through("-C", "-", "-o", str(got), f"{base}/rootfs")
    assert got.read_bytes() == whole
    view = json.loads(through(f"{base}/phase/manifest.json"))
    assert view["artifacts"]["kernel"]["urls"] == [kernel]
    if not where:  # and as the oldest clients ask, which say no host
        old = through("--http1.0", "-H", "Host:", f"{base}/boot.ipxe")
        assert urls_of(old)[0] == kernel


def test_proxy_that_nobody_trusts_changes_nothing(
    mesh: Mesh, artifacts: Path, proxied: Callable[[Node], Proxy]
) -> None:
    node = mesh.serve(artifacts, *GATEWAY, "--trusted-proxy", "192.0.2.10")
    node.wait_for_head(1)
    proxy = proxied(node)
    done = curl("--fail", "--cacert", str(proxy.certificate), f"{proxy.base}/boot.ipxe")
    assert all(url.startswith("http://localhost/blobs/") for url in urls_of(done.stdout)), done.stdout


def test_advertised_address_wins_behind_a_proxy(
    mesh: Mesh, artifacts: Path, proxied: Callable[[Node], Proxy]
) -> None:
    arguments = ("--trusted-proxy", "127.0.0.1", "--advertise-http", "https://boot.example.net")
    node = mesh.serve(artifacts, *GATEWAY, *arguments)
    node.wait_for_head(1)
    proxy = proxied(node)
    done = curl("--fail", "--cacert", str(proxy.certificate), f"{proxy.base}/boot.ipxe")
    assert all(url.startswith("https://boot.example.net/blobs/") for url in urls_of(done.stdout)), done.stdout


@pytest.mark.parametrize("network", ["proxy.example", "10.0.0.7/8", "192.0.2.7:80"])
def test_wrong_network_is_wrong_usage(mesh: Mesh, artifacts: Path, network: str) -> None:
    done = mesh.run("serve", str(artifacts), "--trusted-proxy", network)
    assert done.status == 2
    assert "--trusted-proxy: must be" in done.stderr
    assert "Traceback" not in done.stderr


# --- before there is anything to offer


def status_of(url: str, *arguments: str) -> tuple[int, str, str]:
    """Status, Retry-After and body."""
    done = curl(*arguments, "-w", "\n%{http_code} %header{retry-after}", url)
    body, _, last = done.stdout.rpartition("\n")
    code, _, after = last.partition(" ")
    return int(code), after, body


def test_mirror_before_its_publisher_is_worth_waiting_for(mesh: Mesh, artifacts: Path) -> None:
    trust = mesh.new_key("publisher")
    mirror = mesh.mirror(trust, *GATEWAY)
    base = base_of(mirror)
    for path in ("/boot.ipxe", "/stable/x86_64/kernel", "/phase/manifest.json"):
        code, after, body = status_of(base + path)
        assert (code, body) == (503, "no manifest of stable/x86_64 is complete here yet\n")
        assert int(after) > 0
    for path in ("/testing/x86_64/kernel", "/stable/arm64/kernel", f"/blobs/{'0' * 64}"):
        assert status_of(base + path)[:2] == (404, "")
    publisher = mesh.serve(artifacts, "--bootstrap", mirror.address)
    mirror.wait_for_head(1)
    assert status_of(f"{base}/boot.ipxe")[0] == 200
    publisher.stop()
