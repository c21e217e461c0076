"""What a thief's peers tell a client, who has or had a freshness or a publish key: what others say still counts."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from trio.testing import MockClock

from p2pboot.core.clock import MAX_AHEAD_S, Clock
from p2pboot.core.identity import SecretKey
from p2pboot.core.policy import TrustPolicy
from p2pboot.core.trustdocs.chain import Anchor
from p2pboot.core.trustdocs.freshness import Freshness
from p2pboot.core.trustdocs.root import Root
from p2pboot.core.trustdocs.rootbody import FreshnessRule
from p2pboot.core.verify import Question
from p2pboot.fetch.asking.statements import Statements
from p2pboot.testing.manifests import NOW, key_of
from p2pboot.testing.trustdocs import FRESH, next_root, root_body, signed_root, statement_of, yank_of
from tests.fetch.test_trust import REQUIRED, ROLE, V1, WITHOUT_ROOT, required, run, telling, under
from tests.fetch.world import KEY, OTHER_KEY, World

STOLEN = key_of("stolen freshness")
BOTH = tuple(sorted((KEY.public.keyid, OTHER_KEY.public.keyid)))
BEFORE = signed_root(
    root_body(publish=(replace(ROLE, keys=BOTH, freshness=FreshnessRule((STOLEN.public.keyid,))),))
)
AFTER = next_root(BEFORE, publish=(replace(ROLE, freshness=REQUIRED),))


def junk(count: int, key: SecretKey, root: Root | None = None) -> list[Freshness]:
    """Statements of manifests that nobody has, as late as they may be dated."""
    return [
        statement_of(
            V1,
            root,
            [key],
            created_at=NOW + MAX_AHEAD_S - number,
            head_digest=sha256(b"%d" % number).hexdigest(),
        )
        for number in range(count)
    ]


def before_and_after() -> tuple[TrustPolicy, TrustPolicy]:
    anchor = Anchor.of_root(BEFORE)
    before = under(anchor)
    (trusted,) = before.roots
    assert trusted.chain is not None
    return before, before.with_chains({anchor.digest: replace(trusted.chain, roots=(BEFORE, AFTER))})


def test_what_a_removed_key_said_before_the_root_came_is_in_nobodys_way() -> None:
    before, after = before_and_after()
    statements = Statements(Question(before, Clock(NOW), channel="stable", arch="x86_64"))
    told = [one.raw for one in junk(300, STOLEN, BEFORE)]
    for at in range(0, len(told), 2):
        statements.take_statements(told[at : at + 2], before, Clock(NOW), f"thief {at}")
    statements.take_yanks([yank_of(V1, BEFORE, [OTHER_KEY]).raw], before)
    said, yank = statement_of(V1, AFTER), yank_of(V1, AFTER, [KEY])
    statements.take_statements([said.raw], after, Clock(NOW), "honest")
    statements.take_yanks([yank.raw], after)
    question = statements.question(after, lambda digest: V1 if digest == V1.digest else None)
    assert question.freshness.statement == said
    assert list(question.yanks.values()) == [yank]


async def test_who_has_a_freshness_key_drives_out_no_statement_of_others(
    autojump_clock: MockClock, world: World
) -> None:
    said = statement_of(V1)
    async with (
        telling(world, V1, statements=junk(8, FRESH)) as liar,
        telling(world, V1, statements=[said]) as honest,
    ):
        result = await run(world, liar, honest, policy=required(WITHOUT_ROOT))
    assert result.basis.statement == said


def test_a_peer_is_asked_first_for_the_manifest_that_its_own_statement_names() -> None:
    statements = Statements(Question(WITHOUT_ROOT, Clock(NOW), channel="stable", arch="x86_64"))
    statements.take_statements([one.raw for one in junk(8, FRESH)], WITHOUT_ROOT, Clock(NOW), "liar")
    said = statement_of(V1)
    statements.take_statements([said.raw], WITHOUT_ROOT, Clock(NOW), "honest")
    lacking = statements.lacking(lambda _digest: None, WITHOUT_ROOT, "honest")
    assert lacking[0] == said
    assert len(lacking) == 3  # of the liar no more than an honest peer could have, or little more
