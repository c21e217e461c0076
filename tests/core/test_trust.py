from __future__ import annotations

from p2pboot.core.policy import TrustedRoot, TrustPolicy
from p2pboot.core.trust import Trust
from p2pboot.core.trustdocs.chain import Anchor, begin
from p2pboot.testing.manifests import key_of
from p2pboot.testing.trustdocs import signed_root
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


def test_under_a_root_the_own_directory_wins_nothing_not_even_where_the_root_names_nobody() -> None:
    root = signed_root()  # names "publisher" for stable/x86_64
    anchor = Anchor.of_root(root)
    own = {("stable", "x86_64"): (SECOND,), ("testing", "x86_64"): (SECOND,)}
    for chain in (begin(anchor), None):  # and while it is not at hand nobody knows what it says
        trust = Trust(TrustPolicy.of((), (TrustedRoot(anchor, chain),)), own)
        for pair in own:
            assert trust.revokes(pair, (SECOND,))
            assert not trust.takes(signed(1, "second", pair=pair))
            assert (SECOND,) not in [one.keys for one in trust.publishers]
        assert trust.takes(signed(1)) == (chain is not None)
    # What the operator says beside the root by keys is another matter.
    named = trusting("second", channels=("testing",))
    trust = Trust(TrustPolicy.of(named, (TrustedRoot(anchor, begin(anchor)),)), own)
    assert not trust.revokes(("testing", "x86_64"), (SECOND,))
    assert trust.takes(signed(1, "second", pair=("testing", "x86_64")))
