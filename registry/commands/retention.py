"""`registry retention preview`: what retention would do to each tag, and why."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry import app
from registry.commands.console import NICE, ConfigFile, fail, group, read, reason, repository_patterns
from registry.commands.reports import judgement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config import Settings
    from registry.oci.names import RepositoryName
    from registry.oci.patterns import RepositoryPattern
    from registry.store.retention import Policy, Verdict

command = group("Retention: which tags stay, by retention.policies. `garbage-collect` removes the others.")


@command.command()
def preview(
    path: ConfigFile = None,
    repository: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only these, such as team/app or team/**. May be given several times."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show each tag of the repositories that a policy is about, with the rule that decides. Changes nothing.

    Exit status 0: done. 1: the storage cannot be read. 2: the configuration or the command line is wrong.
    """
    settings = read(path).settings
    if settings.storage.inmemory:
        fail("storage.inmemory: what is in the memory of a server cannot be looked at from outside")
    os.nice(NICE)
    found = _found(settings, repository_patterns(repository))
    if as_json:
        documents = [_document(name, policy, verdicts) for name, policy, verdicts in found]
        typer.echo(json.dumps({"repositories": documents}, indent=2))
        return
    _print(settings, found)


def _found(
    settings: Settings, chosen: list[RepositoryPattern]
) -> Iterator[tuple[RepositoryName, Policy, list[Verdict]]]:
    try:
        yield from app.preview(settings, chosen)
    except app.EmptyVolume:
        root = settings.storage.filesystem.rootdirectory
        fail(f"storage.filesystem.rootdirectory: no registry was served from {root} before", 1)
    except OSError as error:
        fail(f"cannot read {error.filename}: {reason(error)}", 1)


def _document(name: RepositoryName, policy: Policy, verdicts: list[Verdict]) -> dict[str, Any]:
    return {"repository": name, "policy": policy.setting, "tags": [judgement(verdict) for verdict in verdicts]}


def _print(settings: Settings, found: Iterator[tuple[RepositoryName, Policy, list[Verdict]]]) -> None:
    tags = going = 0
    for name, policy, verdicts in found:
        typer.echo(f"{name} ({policy.setting})")
        width = max((len(verdict.tag.name) for verdict in verdicts), default=0)
        for verdict in verdicts:
            pushed = datetime.fromtimestamp(verdict.tag.pushed, UTC).strftime("%Y-%m-%d %H:%M")
            mark = "stays" if verdict.stays else "GOES "
            typer.echo(f"  {mark}  {verdict.tag.name:<{width}}  {pushed}  {verdict.reason}")
        tags += len(verdicts)
        going += sum(not verdict.stays for verdict in verdicts)
    typer.echo(f"{going:,} of {tags:,} tags go with the next garbage collection. Times are UTC.")
    for number, policy_settings in enumerate(settings.retention.policies):
        if policy_settings.keep is not None and not (policy_settings.untagged or settings.gc.deleteuntagged):
            typer.echo(
                f"retention.policies.{number} removes tags, but not their manifests: that frees no room. "
                "Set its untagged, such as 7d, or gc.deleteuntagged."
            )
