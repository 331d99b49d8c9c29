"""Errors are classes: one class is one row of the specification's code table. Handlers raise, one renderer answers.

    class                  code                       status  raised when
    ---------------------  -------------------------  ------  -----------------------------------------------------
    BlobUnknown            BLOB_UNKNOWN               404     the repository has no such blob
    UploadInvalid          BLOB_UPLOAD_INVALID        400     the request does not fit the upload session
    UploadUnknown          BLOB_UPLOAD_UNKNOWN        404     no such upload session, or it is closed
    DigestInvalid          DIGEST_INVALID             400     malformed, unsupported, or not that of the content
    ManifestBlobUnknown    MANIFEST_BLOB_UNKNOWN      400     a manifest names blobs or manifests that are not there
    ManifestInvalid        MANIFEST_INVALID           400     not a manifest that we store
    ManifestUnknown        MANIFEST_UNKNOWN           404     no such tag or manifest in the repository
    NameInvalid            NAME_INVALID               400     not a repository name
    NameUnknown            NAME_UNKNOWN               404     no such repository
    SizeInvalid            SIZE_INVALID               400     the body is not as long as was said
      TooLarge             SIZE_INVALID               413     a manifest above the limit
    Unauthorized           UNAUTHORIZED               401     credentials are needed
      TokenInvalid         UNAUTHORIZED               401     a token that does not count
      InsufficientScope    UNAUTHORIZED               401     a token that does not allow this
    Denied                 DENIED                     403     allowed to nobody, or not to this caller
      PreconditionFailed   DENIED                     412     If-Match or If-None-Match does not hold
    Unsupported            UNSUPPORTED                405     the operation is switched off
      MethodNotAllowed     UNSUPPORTED                405     the endpoint has no such method
      NoSuchEndpoint       UNSUPPORTED                404     nothing answers at that path
    TooManyRequests        TOOMANYREQUESTS            429     slow down
    TagInvalid             TAG_INVALID                400     not a tag                               (registry:2)
    RangeInvalid           RANGE_INVALID              416     a range that cannot be had or appended  (registry:2)
    PageInvalid            PAGINATION_NUMBER_INVALID  400     `n` is not a number of entries          (registry:2)
    Unavailable            UNAVAILABLE                503     not now                                 (registry:2)
      UploadBusy           UNAVAILABLE                503     another request is writing to the session
      StorageFull          UNAVAILABLE                507     the medium refused a write
    InternalError          UNKNOWN                    500     a defect of ours                        (registry:2)

Source: distribution-spec, "Error Codes"; the rows marked registry:2 are codes of its own that scripts test for.
docker prints the message of a 4xx whose body is this JSON, and throws the body of a 5xx away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class RegistryError(Exception):
    """Something that the client is told.

    Attributes:
        code: identifier of the specification's table.
        status: HTTP status.
        message: one sentence for a person.
        detail: JSON-safe data for a program, or None.
        headers: response headers that belong to the answer (Retry-After, Allow, Range, Location).
    """

    code: ClassVar[str] = "UNKNOWN"
    status: ClassVar[int] = 500
    summary: ClassVar[str] = "internal error"

    def __init__(self, message: str = "", *, detail: Any = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message or self.summary)
        self.message = message or self.summary
        self.detail = detail
        self.headers: dict[str, str] = dict(headers or {})

    def entries(self) -> list[dict[str, Any]]:
        """The members of the answer's `errors` list."""
        return [{"code": self.code, "message": self.message, "detail": self.detail}]


class BlobUnknown(RegistryError):
    code, status, summary = "BLOB_UNKNOWN", 404, "blob unknown to registry"


class UploadInvalid(RegistryError):
    code, status, summary = "BLOB_UPLOAD_INVALID", 400, "blob upload invalid"


class UploadUnknown(RegistryError):
    code, status, summary = "BLOB_UPLOAD_UNKNOWN", 404, "blob upload unknown to registry"


class DigestInvalid(RegistryError):
    code, status, summary = "DIGEST_INVALID", 400, "provided digest did not match uploaded content"


class ManifestBlobUnknown(RegistryError):
    """Carries every missing digest, so that a client can mend all of them before it tries again."""

    code, status, summary = "MANIFEST_BLOB_UNKNOWN", 400, "manifest references a blob unknown to registry"

    def __init__(self, missing: Iterable[str]) -> None:
        self.missing = tuple(missing)
        super().__init__(f"{self.summary}: {', '.join(self.missing)}")

    def entries(self) -> list[dict[str, Any]]:
        return [
            {"code": self.code, "message": f"{self.summary}: {digest}", "detail": {"digest": digest}}
            for digest in self.missing
        ]


class ManifestInvalid(RegistryError):
    code, status, summary = "MANIFEST_INVALID", 400, "manifest invalid"


class ManifestUnknown(RegistryError):
    code, status, summary = "MANIFEST_UNKNOWN", 404, "manifest unknown to registry"


class NameInvalid(RegistryError):
    code, status, summary = "NAME_INVALID", 400, "invalid repository name"


class NameUnknown(RegistryError):
    code, status, summary = "NAME_UNKNOWN", 404, "repository name not known to registry"


class SizeInvalid(RegistryError):
    code, status, summary = "SIZE_INVALID", 400, "provided length did not match content length"


class TooLarge(SizeInvalid):
    status, summary = 413, "manifest too large"


class Unauthorized(RegistryError):
    """`word` is RFC 6750's for what is wrong with a token, where there is one."""

    code, status, summary = "UNAUTHORIZED", 401, "authentication required"
    word: ClassVar[str] = ""


class TokenInvalid(Unauthorized):
    summary = "the token does not count"
    word = "invalid_token"


class InsufficientScope(Unauthorized):
    summary = "the token does not allow this"
    word = "insufficient_scope"


class Denied(RegistryError):
    code, status, summary = "DENIED", 403, "requested access to the resource is denied"


class PreconditionFailed(Denied):
    status, summary = 412, "the manifest is not the one that the condition names"


class Unsupported(RegistryError):
    code, status, summary = "UNSUPPORTED", 405, "the operation is unsupported"


class MethodNotAllowed(Unsupported):
    summary = "this endpoint has no such method"


class NoSuchEndpoint(Unsupported):
    status, summary = 404, "no such endpoint"


class TooManyRequests(RegistryError):
    code, status, summary = "TOOMANYREQUESTS", 429, "too many requests"


class TagInvalid(RegistryError):
    code, status, summary = "TAG_INVALID", 400, "invalid tag"


class RangeInvalid(RegistryError):
    code, status, summary = "RANGE_INVALID", 416, "invalid content range"


class PageInvalid(RegistryError):
    code, status, summary = "PAGINATION_NUMBER_INVALID", 400, "invalid number of results requested"


class Unavailable(RegistryError):
    code, status, summary = "UNAVAILABLE", 503, "service unavailable"


class UploadBusy(Unavailable):
    summary = "another request is writing to this upload session"


class StorageFull(Unavailable):
    status, summary = 507, "the storage is full"


class InternalError(RegistryError):
    pass
