"""`registry retention preview`, and retention in `registry garbage-collect`, beside a running registry."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from collecting import age, collect, environment
from images import image
from remote import Remote
from serving import Server

POLICIES = "[{repositories: 'team/**', immutable: 'v.*', keep: [{tags: 'b.*', last: 1}, {versions: 1}], untagged: 1h}]"
DAY = 86_400


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Server]:
    environment = {"REGISTRY_RETENTION_POLICIES": POLICIES}
    with Server(tmp_path / "data", environment=environment) as server:
        yield server
    assert "Traceback" not in server.log()


@pytest.fixture
def remote(running: Server) -> Iterator[Remote]:
    with Remote(running.url) as remote:
        yield remote


def push(remote: Remote, root: Path, repository: str, *tags: str) -> None:
    """Images of long ago, each a day younger than the one before."""
    for tag in tags:
        remote.push(repository, image(f"{repository}:{tag}", size=1000), tag)
    age(root)
    for days, tag in enumerate(tags):
        link = root / f"docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link"
        os.utime(link, (1_000_000_000 + days * DAY,) * 2)


def preview(root: Path, *arguments: str, policies: str = POLICIES) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "registry", "retention", "preview", *arguments],
        env=environment(root, REGISTRY_RETENTION_POLICIES=policies),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def tags(remote: Remote, repository: str) -> list[str]:
    return list(remote.http.get(f"/v2/{repository}/tags/list").json()["tags"])


def test_a_preview_shows_each_tag_with_the_rule_that_decides(running: Server, remote: Remote) -> None:
    push(remote, running.root, "other", "b1", "b2")
    push(remote, running.root, "team/app", "b1", "b2", "1.2.3", "vendored", "rest")
    told = preview(running.root)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines() == [
        "team/app (retention.policies.0)",
        "  GOES   rest      2001-09-13 01:46  no rule of retention.policies.0.keep keeps it",
        "  stays  vendored  2001-09-12 01:46  immutable, 'v.*' of retention.policies.0.immutable",
        "  stays  1.2.3     2001-09-11 01:46  retention.policies.0.keep.1.versions: 1",
        "  stays  b2        2001-09-10 01:46  retention.policies.0.keep.0.last: 1",
        "  GOES   b1        2001-09-09 01:46  no rule of retention.policies.0.keep keeps it",
        "2 of 5 tags go with the next garbage collection. Times are UTC.",
    ]
    assert len(tags(remote, "team/app")) == 5


def test_a_preview_for_scripts_and_of_some_repositories(running: Server, remote: Remote) -> None:
    push(remote, running.root, "team/app", "b1", "b2")
    push(remote, running.root, "team/tool", "x")
    (found,) = json.loads(preview(running.root, "--json", "--repository", "team/a*").stdout)["repositories"]
    assert (found["repository"], found["policy"]) == ("team/app", "retention.policies.0")
    assert [(tag["tag"], tag["stays"]) for tag in found["tags"]] == [("b2", True), ("b1", False)]
    assert found["tags"][1]["digest"] == remote.digest("team/app", "b1")
    assert found["tags"][1]["pushed"] == "2001-09-09T01:46:40Z"
    assert preview(running.root, "--repository", "Team").returncode == 2


def test_a_preview_says_when_no_room_would_be_freed(running: Server, remote: Remote) -> None:
    push(remote, running.root, "team/app", "b1")
    told = preview(running.root, policies="[{repositories: '**', keep: [{last: 3}]}]")
    assert "retention.policies.0 removes tags, but not their manifests" in told.stdout
    assert "untagged" in told.stdout


def test_where_no_registry_was_served_from_it_says_so(tmp_path: Path) -> None:
    told = preview(tmp_path / "nothing")
    assert (told.returncode, told.stdout) == (1, "")
    assert "no registry was served from" in told.stderr


def test_a_collection_removes_what_the_preview_showed_beside_a_running_registry(
    running: Server, remote: Remote
) -> None:
    push(remote, running.root, "team/app", "b1", "b2", "rest")
    gone = remote.digest("team/app", "b1")
    assert tags(remote, "team/app") == ["b1", "b2", "rest"]
    told = collect(running.root, "--dry-run", REGISTRY_RETENTION_POLICIES=POLICIES)
    lines = [line for line in told.stdout.splitlines() if line.startswith("tag ")]
    assert lines == [
        "tag eligible for deletion: team/app:rest (no rule of retention.policies.0.keep keeps it)",
        "tag kept: team/app:b2 (retention.policies.0.keep.0.last: 1)",
        "tag eligible for deletion: team/app:b1 (no rule of retention.policies.0.keep keeps it)",
    ]
    assert "tags to remove       2" in told.stdout
    assert tags(remote, "team/app") == ["b1", "b2", "rest"]
    done = json.loads(collect(running.root, "--json", REGISTRY_RETENTION_POLICIES=POLICIES).stdout)
    assert (done["tags_removed"], done["manifests_removed"]) == (2, 2)
    assert [(each["repository"], each["tag"]) for each in done["removed"]["tags"]] == [
        ("team/app", "rest"),
        ("team/app", "b1"),
    ]
    assert tags(remote, "team/app") == ["b2"]
    assert remote.http.get("/v2/team/app/manifests/b1").status_code == 404
    assert remote.http.get(f"/v2/team/app/manifests/{gone}").status_code == 404
    remote.holds("team/app", image("team/app:b2", size=1000), "b2")


def test_in_read_only_mode_no_tag_goes(running: Server, remote: Remote) -> None:
    push(remote, running.root, "team/app", "b1", "b2")
    command = [sys.executable, "-m", "registry", "read-only", "on"]
    subprocess.run(command, env=environment(running.root), check=True, timeout=60, capture_output=True)
    done = json.loads(collect(running.root, "--json", REGISTRY_RETENTION_POLICIES=POLICIES).stdout)
    assert (done["tags_removed"], done["manifests_removed"]) == (0, 0)
    assert done["problems"] == ["retention did not run: the registry is read-only"]
    assert tags(remote, "team/app") == ["b1", "b2"]
