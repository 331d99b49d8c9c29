"""Names of repositories, tags and upload sessions, and what a manifest is asked for by.

Source: distribution-spec, "Pulling manifests" (both patterns). The limit of 255 characters is registry:2's.
"""

from __future__ import annotations

import re

from registry.oci.digest import Digest
from registry.oci.errors import NameInvalid, TagInvalid, UploadUnknown

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_SESSION = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NAME_LIMIT = 255


class RepositoryName(str):
    """A validated repository name, such as `library/ubuntu`. No part of it can leave its directory.

    Raises:
        NameInvalid: the text is no repository name.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> RepositoryName:
        if len(text) > _NAME_LIMIT:
            raise NameInvalid(f"invalid repository name: {len(text)} characters, at most {_NAME_LIMIT} allowed")
        if _NAME.fullmatch(text) is None:
            raise NameInvalid(
                f"invalid repository name {text!r}: lower-case letters, digits and separators ( . _ - / ) only"
            )
        return super().__new__(cls, text)


class Tag(str):
    """A validated tag.

    Raises:
        TagInvalid: the text is no tag.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Tag:
        if _TAG.fullmatch(text) is None:
            raise TagInvalid(
                f"invalid tag {text[:160]!r}: up to 128 letters, digits, '_', '.', '-', not beginning with '.' or '-'"
            )
        return super().__new__(cls, text)


class SessionId(str):
    """The UUID of an upload session, in its canonical text.

    Raises:
        UploadUnknown: the text is no such UUID, so no session has it.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> SessionId:
        if _SESSION.fullmatch(text) is None:
            raise UploadUnknown
        return super().__new__(cls, text)


Reference = Tag | Digest
"""What names a manifest in a repository: a tag, or a digest."""


def parse_reference(text: str) -> Reference:
    """A reference from a path: what has a colon is a digest, as no tag can have one.

    Raises:
        DigestInvalid: it has a colon and is no digest.
        TagInvalid: it has none and is no tag.
    """
    return Digest(text) if ":" in text else Tag(text)
