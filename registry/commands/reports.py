"""What long work looks like: a progress bar; of a garbage collection, lines as registry:2 prints them, and a report."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from registry.oci.digest import Digest
    from registry.oci.names import RepositoryName
    from registry.store.gc import Report
    from registry.store.retention import Verdict
    from registry.store.survey import Survey


class Bar:
    """Progress on a terminal, and nothing elsewhere: on the standard error, so that lines go past it.

    `archive.base.Watch`, and what `Lines` shows.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._is_seen = sys.stderr.isatty()

    def begin(self, task: str, steps: int) -> None:
        """`steps` of 0: nobody knows how many."""
        self.close()
        if self._is_seen:
            unknown: Iterator[None] | None = None if steps else filter(None, [])
            self._bar = typer.progressbar(unknown, length=steps or None, label=f"{task:<18}", file=sys.stderr)
            self._bar.__enter__()

    def advance(self, steps: int = 1) -> None:
        if self._bar is not None:
            self._bar.update(steps)

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        if self._bar is not None:
            typer.echo("\r\x1b[K", err=True, nl=False)  # the bar comes again below the line
        typer.echo(line)

    def close(self) -> None:
        """Show nothing more."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Silent:
    """`store.gc.Watch` that shows nothing."""

    def begin(self, task: str, steps: int) -> None:
        pass

    def advance(self) -> None:
        pass

    def judged(self, repository: RepositoryName, verdict: Verdict) -> None:
        pass

    def surveyed(self, survey: Survey, needed: set[Digest]) -> None:
        pass

    def manifest_goes(self, repository: RepositoryName, digest: Digest) -> None:
        pass

    def blob_goes(self, digest: Digest) -> None:
        pass

    def marked(self, blobs: int, eligible: int, manifests: int) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Show nothing more."""


class Notes(Silent):
    """Remembers what goes, for a document."""

    def __init__(self) -> None:
        self.tags: list[dict[str, Any]] = []
        self.manifests: list[dict[str, str]] = []
        self.blobs: list[str] = []

    def judged(self, repository: RepositoryName, verdict: Verdict) -> None:
        if not verdict.stays:
            self.tags.append({"repository": repository, **judgement(verdict)})

    def manifest_goes(self, repository: RepositoryName, digest: Digest) -> None:
        self.manifests.append({"repository": repository, "digest": digest})

    def blob_goes(self, digest: Digest) -> None:
        self.blobs.append(digest)


class Lines(Silent):
    """Prints the lines that scripts for registry:2 look for; on a terminal also a bar, below them."""

    def __init__(self) -> None:
        self._bar = Bar()

    def begin(self, task: str, steps: int) -> None:
        self._bar.begin(task, steps)

    def advance(self) -> None:
        self._bar.advance()

    def judged(self, repository: RepositoryName, verdict: Verdict) -> None:
        what = "kept" if verdict.stays else "eligible for deletion"
        self._bar.say(f"tag {what}: {repository}:{verdict.tag.name} ({verdict.reason})")

    def manifest_goes(self, repository: RepositoryName, digest: Digest) -> None:  # noqa: ARG002
        self._bar.say(f"manifest eligible for deletion: {digest}")

    def blob_goes(self, digest: Digest) -> None:
        self._bar.say(f"blob eligible for deletion: {digest}")

    def marked(self, blobs: int, eligible: int, manifests: int) -> None:
        self._bar.say(f"{blobs} blobs marked, {eligible} blobs and {manifests} manifests eligible for deletion")

    def close(self) -> None:
        self._bar.close()


def text(report: Report) -> str:
    """The report, for people."""
    manifests, blobs = report.manifests_removed, report.blobs_removed
    verb = "to remove" if report.dry_run else "removed"
    rows = [
        ("repositories", f"{report.repositories:,}"),
        ("manifests read", f"{report.manifests_read:,}"),
        (f"manifests {verb}", f"{manifests:,}"),
        (f"blobs {verb}", f"{blobs:,}, {size(report.bytes_freed)}"),
        ("blobs kept", f"{report.blobs_kept:,}, {size(report.bytes_kept)}"),
        ("too young to go", f"{report.blobs_young:,} blobs, {size(report.bytes_young)}"),
        ("layer links removed", f"{report.links_removed:,}"),
        ("seconds", f"{report.seconds:.1f}"),
    ]
    if report.tags_removed:
        rows.insert(1, (f"tags {verb}", f"{report.tags_removed:,}"))
    if report.manifests_young:
        rows.append(("untagged, too young", f"{report.manifests_young:,} manifests"))
    heading = "dry run, nothing was changed:" if report.dry_run else "done:"
    lines = [heading, *(f"  {name:<20} {value}" for name, value in rows)]
    return "\n".join([*lines, *(f"problem: {problem}" for problem in report.problems)])


def document(report: Report, notes: Notes, aborted: str | None = None) -> dict[str, Any]:
    """The report, for scripts."""
    removed = {"tags": notes.tags, "manifests": notes.manifests, "blobs": notes.blobs}
    return {"aborted": aborted, **asdict(report), "removed": removed}


def judgement(verdict: Verdict) -> dict[str, Any]:
    """What was decided about a tag, for scripts."""
    pushed = datetime.fromtimestamp(verdict.tag.pushed, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    tag = {"tag": verdict.tag.name, "digest": verdict.tag.digest, "pushed": pushed}
    return {**tag, "stays": verdict.stays, "reason": verdict.reason}


def size(count: int) -> str:
    """A number of bytes, for people."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.1f} {unit}" if unit != "bytes" else f"{count} bytes"
        amount /= 1024
    return f"{amount:.1f} TiB"
