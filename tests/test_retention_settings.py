"""`retention` in files and variables: what cannot be meant stops the start and is named."""

from datetime import timedelta
from pathlib import Path

import pytest

from registry import config
from registry.config import ConfigurationError
from registry.config.settings import Settings


def loaded(path: Path, section: str, **variables: str) -> Settings:
    path.write_text(f"version: 0.1\n{section}")
    return config.load(path, variables).settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yml"


def test_a_configuration_without_it_has_no_policies(path: Path) -> None:
    assert loaded(path, "").retention.policies == []
    assert loaded(path, "retention:\n").retention.policies == []


def test_a_single_text_counts_as_a_list(path: Path) -> None:
    (policy,) = loaded(
        path, "retention: {policies: [{repositories: 'team/**', immutable: 'v.*'}]}\n"
    ).retention.policies
    assert (policy.repositories, policy.immutable) == (["team/**"], ["v.*"])


def test_the_variable_says_the_same(path: Path) -> None:
    policies = "[{repositories: ['team/**'], immutable: ['v.*', '[0-9]+']}]"
    from_file = loaded(path, f"retention: {{policies: {policies}}}\n")
    assert loaded(path, "", REGISTRY_RETENTION_POLICIES=policies).retention == from_file.retention


@pytest.mark.parametrize(
    ("policies", "told"),
    [
        ("[{repositories: '**', immutable: 'v('}]", "retention.policies.0.immutable.0"),
        ("[{repositories: 'Team/**', immutable: 'v.*'}]", "retention.policies.0.repositories.0"),
        ("[{repositories: '**', immutable: ['']}]", "retention.policies.0.immutable"),
        ("[{repositories: '**', immutable: []}]", "expected immutable"),
        ("[{repositories: [], immutable: 'v.*'}]", "expected repositories"),
        ("[{repositories: '**'}]", "expected immutable"),
        ("[{repositories: '**', keep: []}]", "every tag would go"),
        ("[{repositories: '**', keep: [{}]}]", "expected what to keep"),
        ("[{repositories: '**', keep: [{tags: []}]}]", "expected what to keep"),
        ("[{repositories: '**', keep: [{last: 0}]}]", "retention.policies.0.keep.0.last"),
        ("[{repositories: '**', keep: [{younger: 0s}]}]", "retention.policies.0.keep.0.younger"),
        ("[{repositories: '**', keep: [{younger: '30'}]}]", "retention.policies.0.keep.0.younger"),
        ("[{repositories: '**', keep: [{versions: -1}]}]", "retention.policies.0.keep.0.versions"),
        ("[{repositories: '**', keep: [{tags: '('}]}]", "retention.policies.0.keep.0.tags.0"),
        ("[{repositories: '**', keep: [{latest: 3}]}]", "retention.policies.0.keep.0.latest"),
        ("[{repositories: '**', keep: {last: 3}}]", "retention.policies.0.keep"),
        ("[{repositories: '**', untagged: 0s}]", "retention.policies.0.untagged"),
        ("[{repositories: '**', immutable: 'v.*', imutable: 'w.*'}]", "retention.policies.0.imutable"),
        ("{repositories: '**', immutable: 'v.*'}", "retention.policies"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(path: Path, policies: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        loaded(path, f"retention: {{policies: {policies}}}\n")
    assert told in str(raised.value)


def test_what_is_to_stay(path: Path) -> None:
    policies = "[{repositories: '**', keep: [{tags: 'v.*'}, {tags: ['b-.*'], last: 10, younger: 30d}], untagged: 7d}]"
    (policy,) = loaded(path, f"retention: {{policies: {policies}}}\n").retention.policies
    assert policy.keep is not None
    assert [(keep.tags, keep.last) for keep in policy.keep] == [(["v.*"], None), (["b-.*"], 10)]
    assert (policy.keep[1].younger, policy.untagged) == (timedelta(days=30), timedelta(days=7))
    assert loaded(path, "", REGISTRY_RETENTION_POLICIES=policies).retention.policies == [policy]
