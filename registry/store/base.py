"""What the API speaks to: `Store` and `Upload`; and policy as a store over a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

from registry.oci.errors import Unsupported
from registry.oci.headers import Condition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from types import TracebackType

    from registry.oci.digest import Bytes, Digest
    from registry.oci.manifest import Manifest
    from registry.oci.names import Reference, RepositoryName, SessionId, Tag
    from registry.storage.base import BlobSource

ALWAYS = Condition()


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it was pushed: its digest, media type and exact bytes."""

    digest: Digest
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Some names in ASCII order; `more` where names follow after the last one."""

    names: tuple[str, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class ReferrersPage:
    """Some descriptors, as JSON has them; `more` where others follow after the last one."""

    entries: tuple[dict[str, Any], ...]
    more: bool = False


class Upload(Protocol):
    """An upload session, open for one writer. Leaving the `async with` closes it; the session goes on.

    Bytes that were appended since the last checkpoint do not count once it is closed, however that happens.
    """

    id: SessionId
    """The session's UUID."""

    @property
    def offset(self) -> int:
        """Bytes so far."""

    async def expect(self, length: int) -> None:
        """Raises Denied where `length` more bytes would not leave enough room."""

    async def append(self, body: AsyncIterator[Bytes]) -> None:
        """Write a body as it comes. What the body raises goes through, after all that came before is written.

        Raises:
            Denied: the medium has less room than its floor.
            StorageFull: the medium refused a write.
        """

    async def checkpoint(self) -> None:
        """Make the bytes so far count. Raises UploadUnknown where the session was cancelled meanwhile."""

    async def commit(self, digest: Digest) -> int:
        """Verify, and make the blob visible in the repository. The session is over.

        Returns:
            The blob's size in bytes.

        Raises:
            DigestInvalid: the bytes have another digest; the session stays at its last checkpoint.
            UploadUnknown: the session was cancelled meanwhile.
        """

    async def __aenter__(self) -> Upload: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Store(Protocol):
    """A registry's content. Names and digests are validated values; errors are `RegistryError`s."""

    async def blob(self, repository: RepositoryName, digest: Digest) -> BlobSource:
        """Where a blob's bytes are; whoever gets it closes it. Raises BlobUnknown."""

    async def blob_size(self, repository: RepositoryName, digest: Digest) -> int:
        """Size in bytes of a blob that will stay for as long as a push takes. Raises BlobUnknown."""

    async def mount_blob(self, repository: RepositoryName, digest: Digest, source: RepositoryName | None) -> bool:
        """Make a blob of another repository (None: of any) visible in this one; False if it is not there."""

    async def delete_blob(self, repository: RepositoryName, digest: Digest) -> None:
        """Take a blob out of the repository. Raises BlobUnknown."""

    async def begin_upload(self, repository: RepositoryName, algorithm: str = "sha256") -> Upload:
        """A new session; its blob will most likely be named by `algorithm`. Raises DigestInvalid, Denied."""

    async def resume_upload(self, repository: RepositoryName, session: SessionId) -> Upload:
        """Open a session again. Raises UploadUnknown, or UploadBusy where another writer keeps it for seconds."""

    async def upload_offset(self, repository: RepositoryName, session: SessionId) -> int:
        """Bytes of a session that count. Raises UploadUnknown."""

    async def cancel_upload(self, repository: RepositoryName, session: SessionId) -> None:
        """End a session without a blob. Raises UploadUnknown."""

    async def manifest(self, repository: RepositoryName, reference: Reference) -> StoredManifest:
        """Raises ManifestUnknown."""

    async def put_manifest(
        self,
        repository: RepositoryName,
        digest: Digest,
        manifest: Manifest,
        tags: Sequence[Tag] = (),
        condition: Condition = ALWAYS,
    ) -> None:
        """Store a manifest under its digest, then point tags at it.

        The condition is on the first tag, or on the digest where there are no tags.

        Raises:
            ManifestBlobUnknown: with everything that it references and that is not there.
            PreconditionFailed: nothing was changed.
        """

    async def delete_manifest(
        self, repository: RepositoryName, reference: Reference, condition: Condition = ALWAYS
    ) -> None:
        """By digest: the manifest and its tags. By tag: the tag alone. Raises ManifestUnknown, PreconditionFailed."""

    async def tags(self, repository: RepositoryName, last: str = "", limit: int | None = None) -> Page:
        """Up to `limit` tags after `last`. Raises NameUnknown."""

    async def referrers(
        self,
        repository: RepositoryName,
        digest: Digest,
        kinds: frozenset[str] = frozenset(),
        last: str = "",
        limit: int | None = None,
    ) -> ReferrersPage:
        """Descriptors of the manifests whose subject is `digest`, in the order of their digests, after `last`.

        Those of the artifact types in `kinds` alone, if it names any; up to `limit`, and as fit into one manifest.
        """

    async def repositories(
        self, last: str = "", limit: int | None = None, visible: Callable[[RepositoryName], bool] | None = None
    ) -> Page:
        """Up to `limit` repositories that hold a manifest, after `last`; those alone that are `visible`.

        `visible` is called in a thread.
        """


class Refuse:
    """A store that answers only what is in `allowed`; the rest, also what is added to `Store` later, is refused.

    What is allowed is the method of the store behind it itself, so that a pull pays nothing for a policy.

    Args:
        store: the store behind it.
        reason: what the client is told; it names the setting.
    """

    allowed: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, store: Store, reason: str) -> None:
        self._store = store
        self._reason = reason
        for name in self.allowed:
            setattr(self, name, getattr(store, name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Store, name):
            raise AttributeError(name)
        return self._refuse

    async def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise Unsupported(self._reason)


READS = frozenset({"blob", "blob_size", "manifest", "tags", "referrers", "repositories"})


class ReadOnly(Refuse):
    """Pulls and lists, nothing else."""

    allowed = READS


class KeepEverything(Refuse):
    """All but deletes."""

    allowed = READS | {
        "mount_blob",
        "begin_upload",
        "resume_upload",
        "upload_offset",
        "cancel_upload",
        "put_manifest",
    }
