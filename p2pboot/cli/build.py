"""`p2pboot manifest build`: hash a directory and write its manifest, signed or to be signed elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2pboot.cli.clock import wall_now
from p2pboot.cli.files import STANDARD_INPUT, detached_path, write_output
from p2pboot.cli.options import FILE, Command, config_option, json_option, verbosity_options
from p2pboot.cli.output import emit_json, note, warn
from p2pboot.cli.progress import open_progress
from p2pboot.cli.settings import overrides_of, setting_options
from p2pboot.core.dataclass import dataclass
from p2pboot.errors import ManifestError, UsageError

if TYPE_CHECKING:
    from p2pboot.config.load import Loaded
    from p2pboot.core.identity import PublicKey, SecretKey
    from p2pboot.publish.build import BuildOptions, Built
    from p2pboot.publish.layout import Ignored
    from p2pboot.publish.scan import Tree

_MAX_NAMES_IN_A_LINE = 12


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where the manifest goes: a file, or standard output."""

    file: Path | None
    detached: bool

    @classmethod
    def of(cls, file: Path | None, *, detached: bool, unsigned: bool) -> _Destination:
        """Refuse now what would only fail after the hashing."""
        if detached and unsigned:
            raise UsageError(
                "--detached can not be made for an unsigned manifest: it covers the finished file",
                remedy="use --detached with the last `p2pboot manifest sign`",
            )
        file = None if file == STANDARD_INPUT else file  # "-" is standard output here
        if detached and file is None:
            raise UsageError("--detached writes FILE.sig beside FILE", remedy="name FILE with -o")
        if file is not None and not file.parent.is_dir():
            raise UsageError(f"there is no directory {file.parent} for {file.name}", remedy="make it first")
        if file is not None and file.is_dir():
            raise UsageError(
                f"{file} is a directory", remedy=f"name a file in it: -o {file / 'manifest.json'}"
            )
        return cls(file, detached)

    def write(self, raw: bytes, detached_by: SecretKey | None) -> None:
        from p2pboot.core.manifest import sign_detached

        write_output(self.file, raw)
        if self.file is None:
            return
        signature = detached_path(self.file)
        if self.detached and detached_by is not None:
            write_output(signature, sign_detached(raw, detached_by).encode() + b"\n")
        elif signature.exists():
            warn(f"{signature} was there before: remove it, or renew it with --detached")


@click.command(cls=Command)
@click.argument("provider_directory", metavar="DIR")
@setting_options(
    "provider.channel",
    "provider.arch",
    "provider.name",
    "provider.version",
    "provider.cmdline",
    "provider.expires_in",
    "provider.piece_length",
)
@click.option(
    "--manifest-version",
    type=click.IntRange(min=1),
    metavar="N",
    help="Counter of this manifest.  [default: one more than the last]",
)
@click.option(
    "--url", "urls", multiple=True, metavar="BASE", help="HTTP gateway that has the artifacts; repeatable."
)
@config_option
@setting_options("identity", "store.state")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write to FILE instead of standard output.")
@click.option("--detached", is_flag=True, help="Also write FILE.sig, a signature over the file's bytes.")
@click.option("--unsigned", is_flag=True, help="Leave the signatures to `manifest sign`; needs --signer.")
@click.option("--signer", "signers", multiple=True, metavar="KEYID", help="Who will sign; with --unsigned.")
@json_option
@verbosity_options
def build(
    *,
    config_path: Path | None,
    manifest_version: int | None,
    urls: tuple[str, ...],
    output: Path | None,
    detached: bool,
    unsigned: bool,
    signers: tuple[str, ...],
    as_json: bool,
    **params: Any,
) -> None:
    """Build the manifest of the artifacts in DIR and sign it with the node's key.

    DIR holds the files themselves, or <channel>/<arch>/<file>. What is ignored in it is listed; artifacts.toml beside
    the files says which is which where names do not. The manifest goes to standard output or to FILE; when nothing
    changed since the last one, that one is given again. Hashes and the counter are kept in the state directory.
    """
    from p2pboot.config.load import load

    destination = _Destination.of(output, detached=detached, unsigned=unsigned)
    loaded = load(overrides_of(params), config_path)
    tree = _the_tree(loaded)
    key: SecretKey | None = None
    if unsigned:
        publics, peer_id = _signers(signers), _peer_id_if_known(loaded)
    else:
        if signers:
            raise UsageError("--signer names who signs later", remedy="add --unsigned, or leave --signer out")
        key, peer_id = _key(loaded)
        publics = []
    options = _options(loaded, manifest_version, _checked(urls), peer_id)
    built = _build(loaded, tree, options, key, publics)
    _tell(tree, built, manifest_version)
    if destination.file is not None or not as_json:
        destination.write(built.raw, key)
    if as_json:
        emit_json(_document(tree, built, destination))


def _the_tree(loaded: Loaded) -> Tree:
    from p2pboot.publish.scan import scan_each

    provider = loaded.settings.provider
    assert provider.directory is not None  # noqa: S101 - a required argument
    found = scan_each(provider.directory, provider.channel, provider.arch)
    pairs = [
        *((one.channel, one.arch) for one in found.trees),
        *((one.channel, one.arch) for one in found.unfit),
    ]
    if len(pairs) > 1:
        names = ", ".join(f"{channel}/{arch}" for channel, arch in sorted(pairs))
        raise UsageError(
            f"{provider.directory} holds {names}, and a manifest is for one of them",
            remedy="choose it with --channel and --arch",
        )
    for unfit in found.unfit:
        raise unfit.error
    for fault in found.faults:  # beside the pair that is built, not in it
        warn(f"{fault.message}; {fault.remedy}" if fault.remedy else fault.message)
    return found.trees[0]


def _signers(texts: Sequence[str]) -> list[PublicKey]:
    from p2pboot.core.identity import parse_keyid

    if not texts:
        raise UsageError(
            "--unsigned needs to know who will sign", remedy="add --signer KEYID for each of them"
        )
    try:
        return [parse_keyid(text) for text in dict.fromkeys(texts)]
    except ValueError as error:
        raise UsageError(f"--signer: {error}") from None


def _key(loaded: Loaded) -> tuple[SecretKey, str | None]:
    """The key that signs, and the peer id of the node that will serve."""
    from p2pboot.store.keyfiles import load_key

    identity = loaded.settings.identity
    if identity.signing_key_path is None:
        key = load_key(identity.key_path, warn=warn)
        return key, key.public.peer_id
    return load_key(identity.signing_key_path, warn=warn), _peer_id_if_known(loaded)


def _peer_id_if_known(loaded: Loaded) -> str | None:
    """The node's peer id; None when no key was named and there is none at the default place."""
    from p2pboot.config.load import Provenance
    from p2pboot.store.keyfiles import load_key

    path = loaded.settings.identity.key_path
    if loaded.provenance["identity.key_path"] is Provenance.DEFAULT and not path.exists():
        return None
    return load_key(path, warn=warn).public.peer_id


def _checked(urls: tuple[str, ...]) -> tuple[str, ...]:
    """A bad URL is found before the hashing, not after it."""
    from p2pboot.core.manifest.fields import check_urls

    try:
        return check_urls("--url", urls)
    except ManifestError as error:
        raise UsageError(
            error.message, remedy="give the gateway's address, such as http://192.0.2.7:8080"
        ) from None


def _options(
    loaded: Loaded, manifest_version: int | None, urls: tuple[str, ...], peer_id: str | None
) -> BuildOptions:
    from p2pboot.publish.build import BuildOptions

    provider = loaded.settings.provider
    return BuildOptions(
        name=provider.name,
        version=provider.version,
        manifest_version=manifest_version,
        expires_in_s=provider.expires_in_s,
        cmdline=provider.cmdline,
        urls=urls,
        peer_id=peer_id,
        piece_length=provider.piece_length,
    )


def _build(
    loaded: Loaded, tree: Tree, options: BuildOptions, key: SecretKey | None, publics: list[PublicKey]
) -> Built:
    from p2pboot.publish.build import build as build_manifest
    from p2pboot.publish.numbering import Series, valid_too_long, went_back
    from p2pboot.store.store import Store

    now = wall_now()
    with Store.open(loaded.settings.store.state) as store, open_progress("hashing", "hashed") as shown:
        progress = partial(shown.artifact, "artifacts")
        keys = [] if key is None else [key]
        built = build_manifest(
            tree,
            options,
            keys=keys,
            signers=publics,
            store=store,
            now=now,
            progress=progress,
            known=partial(shown.known, "artifacts"),
        )
        said = built.statement
        wrong_date = went_back(store.publications, Series(said.signers, said.channel, said.arch), now)
    for problem in filter(None, (wrong_date, valid_too_long(said))):
        warn(f"{problem.subject}: {problem.text}; {problem.remedy}")
    return built


def _tell(tree: Tree, built: Built, manifest_version: int | None) -> None:
    said = built.statement
    what = "unchanged" if built.unchanged else "built"
    note(
        f"{what}: {said.channel}/{said.arch} version {said.version}, manifest version {said.manifest_version}"
    )
    if built.first and manifest_version is None:
        note(
            f"the first manifest of {', '.join(said.signers)} for {tree.channel}/{tree.arch} with this state:"
            " the counter starts at 1; if they published elsewhere before, set it with --manifest-version"
        )
    _tell_ignored(tree)
    if built.urls_left_out:
        note(
            f"the manifest has no room for every address of {len(built.files)} artifacts; left out:"
            f" {', '.join(built.urls_left_out)}"
        )
    if built.missing:
        note(f"still to sign: {', '.join(built.missing)}")


def _tell_ignored(tree: Tree) -> None:
    """Say what lies beside the artifacts and is none, a line for each kind of reason."""
    for why, count in _ignored_counts(tree).items():
        names = [_below(tree, one) for one in tree.ignored if one.why == why][:_MAX_NAMES_IN_A_LINE]
        more = f" and {count - len(names)} more" if count > len(names) else ""
        note(f"ignored ({why}): {', '.join(names)}{more}")


def _ignored_counts(tree: Tree) -> dict[str, int]:
    """How many names are ignored for each kind of reason; the names themselves are for people, on standard error."""
    counts = Counter(one.why.value for one in tree.ignored)
    return dict(sorted((counts + Counter(tree.more_ignored)).items()))


def _below(tree: Tree, ignored: Ignored) -> str:
    return str(ignored.path.relative_to(tree.directory))


def _document(tree: Tree, built: Built, destination: _Destination) -> dict[str, object]:
    from p2pboot.core.manifest import Candidate

    return {
        "digest": Candidate.decode(built.raw).digest,
        "unchanged": built.unchanged,
        "first": built.first,
        "missing_signers": list(built.missing),
        "ignored": _ignored_counts(tree),
        "urls_left_out": list(built.urls_left_out),
        "path": None if destination.file is None else str(destination.file),
        "manifest": json.loads(built.raw),
    }
