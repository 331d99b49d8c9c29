"""`quota` in files and variables: what cannot be meant stops the start and is named."""

from pathlib import Path

import pytest

from registry import config
from registry.config import ConfigurationError
from registry.config.quota import Quota


def loaded(tmp_path: Path, section: str, **variables: str) -> Quota:
    path = tmp_path / "config.yml"
    path.write_text(f"version: 0.1\n{section}")
    return config.load(path, variables).settings.quota


def test_without_it_there_is_no_limit(tmp_path: Path) -> None:
    for section in "", "quota:\n", "quota: {total: 0}\n":
        assert loaded(tmp_path, section) == Quota()


def test_sizes_have_units_and_a_single_pattern_counts_as_a_list(tmp_path: Path) -> None:
    section = "quota: {total: 50GiB, limits: [{repositories: 'team/**', together: 1GB}]}\n"
    found = loaded(tmp_path, section)
    assert found.total == 50 * 1024**3
    assert [(limit.repositories, limit.together) for limit in found.limits] == [(["team/**"], 10**9)]


def test_variables_say_the_same(tmp_path: Path) -> None:
    limits = "[{repositories: [a, 'b/*'], together: 1GiB}]"
    from_file = loaded(tmp_path, f"quota: {{total: 2GiB, limits: {limits}}}\n")
    assert loaded(tmp_path, "", REGISTRY_QUOTA_TOTAL="2GiB", REGISTRY_QUOTA_LIMITS=limits) == from_file


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("{total: much}", "quota.total: expected a size such as 512MiB or 2GiB, got 'much'"),
        ("{total: -1}", "quota.total"),
        ("{limits: [{repositories: [], together: 1GiB}]}", "expected repositories, such as team/** or **"),
        ("{limits: [{repositories: 'Team/*', together: 1GiB}]}", "quota.limits.0.repositories"),
        ("{limits: [{repositories: 'team/*', together: 0}]}", "expected a size of more than 0"),
        ("{limits: [{repositories: 'team/*'}]}", "quota.limits.0.together"),
        ("{limits: [{repositories: 'team/*', each: 1GiB, together: 1GiB}]}", "each"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, section: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        loaded(tmp_path, f"quota: {section}\n")
    assert words in str(raised.value)
