import pytest

from p2pboot.core.policy import Publisher, TrustPolicy, no_trust
from p2pboot.errors import ConfigError, ExitStatus
from p2pboot.testing.manifests import ALICE, BOB, CAROL

A, B, C = (key.public for key in (ALICE, BOB, CAROL))


def test_a_publisher_knows_its_keys_however_they_were_named() -> None:
    publisher = Publisher((B.peer_id, A.hex.upper(), B.keyid, f" {A.keyid}"), threshold=2)
    assert publisher.keys == tuple(sorted([A.keyid, B.keyid]))
    assert publisher.trusted_among([C.keyid, B.keyid, B.keyid]) == (B.keyid,)


@pytest.mark.parametrize("threshold", [0, -1, 2])
def test_a_threshold_that_one_key_can_not_meet_is_refused_even_if_it_is_named_twice(threshold: int) -> None:
    with pytest.raises(ConfigError, match=f"{threshold} signatures can not come from 1 keys"):
        Publisher((A.keyid, A.peer_id), threshold=threshold)


def test_what_is_no_key_channel_or_arch_is_refused() -> None:
    with pytest.raises(ConfigError, match="trust 'fleet': 'me' is no key id"):
        Publisher(("me",), name="fleet")
    with pytest.raises(ConfigError, match="channel 'Stable'"):
        Publisher((A.keyid,), channels=("Stable",))
    with pytest.raises(ConfigError, match="architecture 'mips'"):
        Publisher((A.keyid,), archs=("mips",))
    with pytest.raises(ConfigError, match="no key is given"):
        Publisher(())


@pytest.mark.parametrize("field", ["channels", "archs"])
def test_an_empty_list_is_refused_because_it_could_mean_all_or_nothing(field: str) -> None:
    with pytest.raises(ConfigError, match="empty list"):
        Publisher((A.keyid,), **{field: ()})  # type: ignore[arg-type]


def test_the_publisher_of_a_channel_and_arch_is_found() -> None:
    stable = Publisher((A.keyid,), channels=("stable",))
    testing = Publisher((B.keyid,), channels=("testing",), archs=("aarch64",))
    policy = TrustPolicy((stable, testing))
    assert policy.publisher_for("stable", "x86_64") is stable
    assert policy.publisher_for("stable", "arm64") is stable
    assert policy.publisher_for("testing", "arm64") is testing
    assert policy.publisher_for("testing", "x86_64") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({}, {"channels": ("stable",), "archs": ("arm64",)}),
        ({"channels": ("stable", "testing")}, {"channels": ("testing",)}),
        ({"archs": ("arm64",)}, {"channels": ("stable",), "archs": ("aarch64", "x86_64")}),
    ],
)
def test_two_publishers_for_the_same_channel_and_arch_are_refused(
    one: dict[str, tuple[str, ...]], other: dict[str, tuple[str, ...]]
) -> None:
    first = Publisher((A.keyid,), name="first", **one)  # type: ignore[arg-type]
    second = Publisher((B.keyid,), name="second", **other)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="first and second"):
        TrustPolicy((first, second))


def test_publishers_of_different_archs_live_side_by_side() -> None:
    TrustPolicy((Publisher((A.keyid,), archs=("arm64",)), Publisher((B.keyid,), archs=("x86_64",))))


def test_no_trust_at_all_is_wrong_usage() -> None:
    error = no_trust()
    assert error.exit_status is ExitStatus.USAGE
    assert "no trusted key" in error.message
    assert "--trust" in (error.remedy or "")
