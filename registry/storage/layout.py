"""The tree of registry:2, as pure functions from validated values to keys. `docs/storage-format.md` explains it.

    <root>/
    ├── docker/registry/v2/                          registry:2's, to the letter
    │   ├── blobs/<alg>/<hex[:2]>/<hex>/data         content: layers, configs and manifests
    │   └── repositories/<name>/
    │       ├── _layers/<alg>/<hex>/link             the blob is visible in this repository
    │       ├── _manifests/
    │       │   ├── revisions/<alg>/<hex>/link       the manifest is visible in this repository
    │       │   └── tags/<tag>/
    │       │       ├── current/link                 what the tag names; without it there is no tag
    │       │       └── index/<alg>/<hex>/link       everything that it ever named
    │       └── _uploads/<uuid>/
    │           ├── data                             the bytes so far
    │           ├── startedat                        RFC 3339, UTC
    │           └── progress                         ours: digest and size at the last checkpoint
    └── swarm-registry/                              ours; may be deleted while nothing runs
        ├── tmp/                                     files being written, renamed into place when durable
        ├── volume-id                                which volume this is, since it was first served
        ├── read-only                                while it is there, clients change nothing
        ├── signing-key.pem                          what signs tokens, where they are given out
        ├── last-collection                          its text: when the last garbage collection ended
        ├── locks/<2 hex>                            one lock for a few repositories each
        ├── locks/collector                          held by the one garbage collection that runs
        ├── incoming/<uuid>/                         content that an import is writing
        ├── trash/<path below the root>.<uuid>       what a collection takes away, for two system calls
        └── referrers/<name>/_seen                   what each manifest refers to: a cache

A `link` holds exactly `<alg>:<hex>`.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from registry.storage.base import Key

if TYPE_CHECKING:
    from registry.oci.digest import Digest
    from registry.oci.names import RepositoryName, SessionId, Tag

V2 = Key("docker/registry/v2")
OURS = "swarm-registry"
VOLUME_ID = Key(f"{OURS}/volume-id")
READ_ONLY = Key(f"{OURS}/read-only")
SIGNING_KEY = Key(f"{OURS}/signing-key.pem")
TEMPORARY = Key(f"{OURS}/tmp")  # noqa: S108 - below the root
BLOBS = Key(f"{V2}/blobs")
REPOSITORIES = Key(f"{V2}/repositories")
LOCKS = Key(f"{OURS}/locks")
LAST_COLLECTION = Key(f"{OURS}/last-collection")
COLLECTOR = Key(f"{LOCKS}/collector")
TRASH = Key(f"{OURS}/trash")
INCOMING = Key(f"{OURS}/incoming")

LAYERS = "_layers"
MANIFESTS = "_manifests"
UPLOADS = "_uploads"


def _split(digest: Digest) -> str:
    return f"{digest.algorithm}/{digest.hex}"


def blob(digest: Digest) -> Key:
    return Key(f"{BLOBS}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/data")


def blobs_named_by(algorithm: str) -> Key:
    return Key(f"{BLOBS}/{algorithm}")


def repository(name: str) -> Key:
    """The directory of a repository, or of a path that leads to some."""
    return Key(f"{REPOSITORIES}/{name}") if name else REPOSITORIES


def layers(name: RepositoryName) -> Key:
    return Key(f"{REPOSITORIES}/{name}/{LAYERS}")


def layers_named_by(name: RepositoryName, algorithm: str) -> Key:
    return Key(f"{layers(name)}/{algorithm}")


@lru_cache(maxsize=4096)
def layer_link(name: RepositoryName, digest: Digest) -> Key:
    return Key(f"{REPOSITORIES}/{name}/{LAYERS}/{_split(digest)}/link")


def manifests(name: RepositoryName) -> Key:
    return Key(f"{REPOSITORIES}/{name}/{MANIFESTS}")


def revisions(name: str, algorithm: str) -> Key:
    return Key(f"{REPOSITORIES}/{name}/{MANIFESTS}/revisions/{algorithm}")


def revision(name: RepositoryName, digest: Digest) -> Key:
    return Key(f"{REPOSITORIES}/{name}/{MANIFESTS}/revisions/{_split(digest)}")


@lru_cache(maxsize=4096)
def revision_link(name: str, digest: Digest) -> Key:
    return Key(f"{REPOSITORIES}/{name}/{MANIFESTS}/revisions/{_split(digest)}/link")


def signatures(name: RepositoryName, digest: Digest, algorithm: str) -> Key:
    """Where distribution up to 2.4 named the signatures of a schema 1 manifest."""
    return Key(f"{revision(name, digest)}/signatures/{algorithm}")


def tags(name: RepositoryName) -> Key:
    return Key(f"{REPOSITORIES}/{name}/{MANIFESTS}/tags")


def tag(name: RepositoryName, of: Tag) -> Key:
    return Key(f"{tags(name)}/{of}")


@lru_cache(maxsize=4096)
def tag_link(name: RepositoryName, of: Tag) -> Key:
    return Key(f"{tags(name)}/{of}/current/link")


def tag_index(name: RepositoryName, of: Tag, algorithm: str) -> Key:
    """The digests by one algorithm that a tag ever named."""
    return Key(f"{tags(name)}/{of}/index/{algorithm}")


def tag_index_link(name: RepositoryName, of: Tag, digest: Digest) -> Key:
    return Key(f"{tags(name)}/{of}/index/{_split(digest)}/link")


def uploads(name: str) -> Key:
    return Key(f"{REPOSITORIES}/{name}/{UPLOADS}")


def upload(name: RepositoryName, session: SessionId) -> Key:
    """The directory of an upload session."""
    return Key(f"{REPOSITORIES}/{name}/{UPLOADS}/{session}")


def incoming(name: str) -> Key:
    """The directory of content that an import is writing, which has no repository yet."""
    return Key(f"{INCOMING}/{name}")


def seen(name: RepositoryName) -> Key:
    return Key(f"{OURS}/referrers/{name}/_seen")


def lock_called(name: str) -> Key:
    """The lock of a name that a list of `LOCKS` gave."""
    return Key(f"{LOCKS}/{name}")


def condemned(key: Key) -> Key:
    """Where something is while it is being removed, with a dot and a name of each removal's own behind it.

    Not with a directory of its own: that would have to be durable before anything may be moved into it.
    """
    above, directory, name = key.rsplit("/", 2)
    return Key(f"{in_trash(Key(above))}/{directory},{name}")


def in_trash(key: Key) -> Key:
    """Where what is below `key` is while it is being removed."""
    return Key(f"{TRASH}/{key}")


def lock(name: RepositoryName) -> Key:
    return Key(f"{LOCKS}/{hashlib.sha256(name.encode()).hexdigest()[:2]}")
