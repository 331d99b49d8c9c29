"""What retention decides about tags: no storage, no clock."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.digest import Digest
from registry.oci.names import RepositoryName, Tag
from registry.oci.patterns import RepositoryPattern
from registry.store.immutable import ImmutableTags, Protection
from registry.store.retention import Policy, Retention, Rule, TagState, version

APP = RepositoryName("team/app")
EVERYTHING = (RepositoryPattern("**"),)
NOW = 1_000_000.0
DAY = 86_400.0


def tag(name: str, pushed: float = NOW) -> TagState:
    return TagState(Tag(name), Digest.of(name.encode()), pushed)


def fits(*expressions: str) -> tuple[re.Pattern[str], ...]:
    return tuple(map(re.compile, expressions))


def kept(tags: list[TagState], *rules: Rule, immutable: str = "") -> set[str]:
    protections = (Protection("retention.policies.0.immutable", EVERYTHING, fits(immutable)),) if immutable else ()
    retention = Retention([Policy("retention.policies.0", EVERYTHING, rules)], ImmutableTags(protections))
    return {each.tag.name for each in retention.decide(APP, tags, NOW) if each.stays}


def test_the_last_pushed_stay():
    tags = [tag("old", 1), tag("newest", 4), tag("newer", 3), tag("older", 2)]
    assert kept(tags, Rule("r", last=2)) == {"newest", "newer"}
    assert kept(tags, Rule("r", last=9)) == {"old", "older", "newer", "newest"}


def test_the_last_pushed_of_those_that_fit():
    tags = [tag("build-1", 1), tag("build-2", 2), tag("build-3", 3), tag("latest", 4)]
    assert kept(tags, Rule("r", fits("build-.*"), last=2)) == {"build-2", "build-3"}


def test_an_expression_fits_whole_tags():
    assert kept([tag("v1"), tag("v1-rc"), tag("xv1")], Rule("r", fits("v1"))) == {"v1"}
    assert kept([tag("a"), tag("b"), tag("c")], Rule("r", fits("a", "c"))) == {"a", "c"}


def test_younger_counts_from_the_push():
    tags = [tag("young", NOW - DAY + 1), tag("just", NOW - DAY), tag("future", NOW + DAY)]
    assert kept(tags, Rule("r", younger=DAY)) == {"young", "future"}


def test_the_highest_versions_stay_whenever_they_were_pushed():
    tags = [tag("v1.9.0", 5), tag("1.10.0", 1), tag("v1.10.0", 2), tag("1.10.0-rc.1", 9), tag("latest", 9)]
    assert kept(tags, Rule("r", versions=1)) == {"1.10.0", "v1.10.0"}
    assert kept(tags, Rule("r", versions=2)) == {"1.10.0", "v1.10.0", "1.10.0-rc.1"}


def test_words_of_one_rule_and_several_rules_each_keep():
    tags = [tag("1.0.0", 1), tag("build", 2), tag("branch", NOW)]
    assert kept(tags, Rule("r", last=1, versions=1)) == {"1.0.0", "branch"}
    assert kept(tags, Rule("r", fits("build")), Rule("s", last=1)) == {"build", "branch"}


def test_an_immutable_tag_stays_and_takes_no_place_of_another():
    tags = [tag("v1", 1), tag("a", 2), tag("b", 3), tag("v2", 4)]
    assert kept(tags, Rule("r", last=1), immutable="v.*") == {"v1", "v2", "b"}


def test_a_repository_without_a_policy_or_one_without_keep_loses_nothing():
    team = (RepositoryPattern("team/*"),)
    retention = Retention([Policy("p", team, None, untagged=DAY), Policy("q", EVERYTHING, (Rule("r", last=1),))])
    tags = [tag("a", 1), tag("b", 2)]
    assert all(each.stays for each in retention.decide(APP, tags, NOW))
    assert all(each.stays for each in Retention().decide(APP, tags, NOW))
    assert [each.stays for each in retention.decide(RepositoryName("other"), tags, NOW)] == [True, False]
    assert (retention.untagged(APP), retention.untagged(RepositoryName("other"))) == (DAY, None)
    assert not retention.removes_tags(APP)
    assert retention.removes_tags(RepositoryName("other"))


def test_each_verdict_names_its_rule():
    protections = (Protection("retention.policies.0.immutable", EVERYTHING, fits("v.*")),)
    rules = (Rule("keep.0", fits("x")), Rule("keep.1", last=1), Rule("keep.2", younger=DAY), Rule("keep.3", versions=3))
    retention = Retention([Policy("retention.policies.0", EVERYTHING, rules)], ImmutableTags(protections))
    tags = [tag("x", 1), tag("last", NOW + 1), tag("young"), tag("1.0.0", 2), tag("v1", 3), tag("gone", 4)]
    told = {each.tag.name: each.reason for each in retention.decide(APP, tags, NOW)}
    assert told == {
        "x": "keep.0.tags",
        "last": "keep.1.last: 1",
        "young": "keep.2.younger",
        "1.0.0": "keep.3.versions: 3",
        "v1": "immutable, 'v.*' of retention.policies.0.immutable",
        "gone": "no rule of retention.policies.0.keep keeps it",
    }


def test_versions_are_ordered_as_semver_says():
    """The chain of section 11 of https://semver.org."""
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    ordered += ["1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "10.0.0"]
    shuffled = random.Random(1).sample(ordered, len(ordered))
    assert sorted(shuffled, key=lambda name: version(name) or ()) == ordered


@pytest.mark.parametrize("name", ["1", "1.2", "1.2.3.4", "v1.2", "latest", "1.2.x", "1.2.3-", "1.2.3-a..b", "20240101"])
def test_what_is_no_version(name):
    assert version(name) is None


names = st.lists(st.from_regex(r"(v?[0-9]\.[0-9]\.[0-9]|[a-c]{1,3})", fullmatch=True), unique=True, max_size=12)
rules = st.builds(
    Rule,
    st.just("rule"),
    st.sampled_from([(), fits("a.*"), fits("v.*", "b")]),
    st.none() | st.integers(1, 5),
    st.none() | st.floats(1, 100),
    st.none() | st.integers(1, 5),
)


@given(names, st.lists(rules, min_size=1, max_size=4), rules, st.randoms())
def test_another_rule_only_keeps_more_and_the_order_of_tags_does_not_matter(found, some, more, chance):
    tags = [tag(name, NOW - chance.uniform(0, 200)) for name in found]
    before = kept(tags, *some)
    assert before <= kept(tags, *some, more)
    assert before == set().union(*(kept(tags, each) for each in some))
    chance.shuffle(tags)
    assert kept(tags, *some) == before
