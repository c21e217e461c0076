from __future__ import annotations

from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.testing.manifests import key_of
from tests.node.world import signed, trusting

PUBLISHER = key_of("publisher").public.keyid
SECOND = key_of("second").public.keyid
OTHER = key_of("other").public.keyid


def test_what_the_operator_trusts_is_taken_and_nothing_else() -> None:
    trust = Trust(TrustPolicy(trusting("publisher", channels=("stable",))))
    assert trust.takes(signed(1))
    assert not trust.takes(signed(1, pair=("testing", "x86_64")))
    assert not trust.takes(signed(1, "other"))
    assert not Trust(TrustPolicy()).takes(signed(1))


def test_a_threshold_counts_only_trusted_signers() -> None:
    trust = Trust(TrustPolicy(trusting("publisher", "second", threshold=2)))
    assert not trust.takes(signed(1))
    assert not trust.takes(signed(1, "publisher", "other"))
    assert trust.takes(signed(1, "publisher", "second"))


def test_who_signs_the_own_directory_is_trusted_for_its_pair_only() -> None:
    trust = Trust(TrustPolicy(), {("stable", "x86_64"): (PUBLISHER,)})
    assert trust.takes(signed(1))
    assert trust.is_own(signed(1))
    assert not trust.takes(signed(1, pair=("testing", "x86_64")))
    assert not trust.is_own(signed(1, "other"))


def test_the_own_directory_wins_over_a_trust_without_channels() -> None:
    trust = Trust(TrustPolicy(trusting("other")), {("stable", "x86_64"): (PUBLISHER,)})
    assert trust.takes(signed(1))
    assert not trust.takes(signed(1, "other"))
    assert trust.takes(signed(1, "other", pair=("testing", "x86_64")))


def test_a_trust_that_includes_the_own_key_stays_as_the_operator_wrote_it() -> None:
    configured = TrustPolicy(trusting("publisher", "other"))
    trust = Trust(configured, {("stable", "x86_64"): (PUBLISHER,)})
    assert trust.publisher_for("stable", "x86_64") == configured.publishers[0]
    assert trust.takes(signed(1, "other"))
    assert not trust.is_own(signed(1, "other"))


def test_the_dates_of_own_manifests_say_nothing_about_the_time() -> None:
    """They carry the reading of this very clock: one that was years ahead for a day would go on for ever."""
    own = {("stable", "x86_64"): (PUBLISHER,)}
    for configured in (TrustPolicy(), TrustPolicy(trusting("publisher")), TrustPolicy(trusting("other"))):
        assert not Trust(configured, own).tells_time("stable", "x86_64", (PUBLISHER,))
    others = Trust(TrustPolicy(trusting("publisher", "second")), own)
    assert not others.tells_time("testing", "x86_64", (PUBLISHER,))  # published here until yesterday
    assert others.tells_time("testing", "x86_64", (SECOND,))
    assert others.tells_time("stable", "x86_64", tuple(sorted((PUBLISHER, SECOND))))
    assert not others.tells_time("stable", "x86_64", (OTHER,))
