"""Pushing blobs: sessions, chunks, mounts. distribution-spec end-4 to end-6, end-11, end-13, end-14."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from registry.api.responses import empty_response
from registry.auth.base import Action, Need
from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid, NameInvalid, RangeInvalid, SizeInvalid, UploadUnknown
from registry.oci.headers import parse_content_range
from registry.oci.names import RepositoryName, SessionId

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from registry.api.context import Context
    from registry.store.base import Upload


async def status(api: Context, request: Request) -> ASGIApp:
    repository, session = _target(request)
    offset = await api.store.upload_offset(repository, session)
    return empty_response(204, _session_headers(api, request, session, offset))


async def begin(api: Context, request: Request) -> ASGIApp:
    """A new session; or the blob itself, where it can be mounted or came with the request."""
    repository: RepositoryName = request.path_params["repository"]
    if (mount := request.query_params.get("mount")) is not None:
        digest = Digest(mount)
        if await _mount(api, request, digest):
            return _created(api, request, digest)
    if (text := request.query_params.get("digest")) is not None:
        return await _push_at_once(api, request, Digest(text))
    algorithm = request.query_params.get("digest-algorithm", "sha256")
    async with await api.store.begin_upload(repository, algorithm) as upload:
        return empty_response(202, _session_headers(api, request, upload.id, 0))


async def append(api: Context, request: Request) -> ASGIApp:
    repository, session = _target(request)
    async with await api.store.resume_upload(repository, session) as upload:
        await _receive(api, request, upload)
        await upload.checkpoint()
        return empty_response(202, _session_headers(api, request, session, upload.offset))


async def close(api: Context, request: Request) -> ASGIApp:
    repository, session = _target(request)
    if (text := request.query_params.get("digest")) is None:
        raise DigestInvalid("the digest parameter is missing: PUT <location>?digest=<digest> closes an upload")
    digest = Digest(text)
    async with await api.store.resume_upload(repository, session) as upload:
        await _receive(api, request, upload)
        await upload.commit(digest)
    return _created(api, request, digest)


async def cancel(api: Context, request: Request) -> ASGIApp:
    repository, session = _target(request)
    await api.store.cancel_upload(repository, session)
    return empty_response(204, {"Docker-Upload-UUID": session})


async def _mount(api: Context, request: Request, digest: Digest) -> bool:
    text = request.query_params.get("from")
    try:
        source = RepositoryName(text) if text else None
    except NameInvalid:
        return False
    caller = request.scope.get("caller")
    if caller is not None and not caller.may(Need(Action.PULL, source)):
        return False  # whoever mounts a blob can pull it: the client sends it instead, if it has it
    return await api.store.mount_blob(request.path_params["repository"], digest, source)


async def _push_at_once(api: Context, request: Request, digest: Digest) -> ASGIApp:
    """A single POST with the whole blob. Without a body it begins a session, as the specification allows."""
    repository: RepositoryName = request.path_params["repository"]
    async with await api.store.begin_upload(repository, digest.algorithm) as upload:
        try:
            await _receive(api, request, upload)
            if upload.offset == 0 and not digest.is_of_nothing:
                return empty_response(202, _session_headers(api, request, upload.id, 0))
            await upload.commit(digest)
        except Exception:
            with suppress(UploadUnknown):  # its bytes were published before something else failed: say that
                await api.store.cancel_upload(repository, upload.id)  # nobody was told of it
            raise
    return _created(api, request, digest)


async def _receive(api: Context, request: Request, upload: Upload) -> None:
    """Append a request's body to an upload.

    An aborted body counts only where its Content-Range told its place: a client that gave none sends the whole body
    again, to the same session (containerd).
    """
    length = request.headers.get("content-length")
    if length == "0":
        return
    text = request.headers.get("content-range")
    chunk = parse_content_range(text) if text is not None else None
    if chunk is not None and chunk.first != upload.offset:
        raise RangeInvalid(
            f"chunk begins at byte {chunk.first}, but the upload is at {upload.offset}",
            headers=_session_headers(api, request, upload.id, upload.offset),
        )
    if length is not None:
        if chunk is not None and int(length) != chunk.length:
            raise SizeInvalid(f"Content-Range names {chunk.length} bytes, Content-Length {length}")
        await upload.expect(int(length))
    begun = upload.offset
    try:
        await upload.append(request.stream())
    except ClientDisconnect:
        if chunk is not None:
            await upload.checkpoint()
        raise
    if chunk is not None and upload.offset - begun != chunk.length:
        raise SizeInvalid(f"Content-Range names {chunk.length} bytes, {upload.offset - begun} came")


def _target(request: Request) -> tuple[RepositoryName, SessionId]:
    return request.path_params["repository"], request.path_params["session"]


def _session_headers(api: Context, request: Request, session: SessionId, offset: int) -> dict[str, str]:
    """`Range` is inclusive, and docker cannot read an end before its start: nothing at all is `0-0` too."""
    return {
        "Location": api.locations.upload(request, request.path_params["repository"], session),
        "Range": f"0-{max(offset - 1, 0)}",
        "Docker-Upload-UUID": session,
    }


def _created(api: Context, request: Request, digest: Digest) -> ASGIApp:
    location = api.locations.blob(request, request.path_params["repository"], digest)
    return empty_response(201, {"Location": location, "Docker-Content-Digest": digest})
