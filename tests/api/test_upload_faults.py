"""Faults that no client can make: a store that fails in the middle."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from registry.api import uploads
from registry.api.context import Context
from registry.oci.digest import Digest
from registry.oci.errors import StorageFull, UploadUnknown
from registry.oci.names import RepositoryName, SessionId

DATA = b"published, and then the disk was full"


class FullAfterPublishing:
    """A store, and its one upload: the blob's file is in place, its link is refused, and its session is gone."""

    id = SessionId("00000000-0000-4000-8000-000000000000")
    offset = 0

    async def begin_upload(self, *_: Any) -> "FullAfterPublishing":
        return self

    async def cancel_upload(self, *_: Any) -> None:
        raise UploadUnknown

    async def expect(self, length: int) -> None:
        pass

    async def append(self, body: Any) -> None:
        async for part in body:
            self.offset += len(part)

    async def commit(self, _: Digest) -> int:
        raise StorageFull

    async def __aenter__(self) -> "FullAfterPublishing":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def test_a_single_post_tells_the_fault_itself_and_not_that_its_session_is_gone():
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": DATA, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": f"digest={Digest.of(DATA)}".encode(),
        "headers": [(b"content-length", str(len(DATA)).encode())],
        "path_params": {"repository": RepositoryName("some/name")},
    }
    with pytest.raises(StorageFull):
        asyncio.run(uploads.begin(Context(FullAfterPublishing()), Request(scope, receive)))
