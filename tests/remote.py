"""A registry as an HTTP client sees it: the requests of the specification, each checked for the right answer."""

from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import httpx
from images import EVERY_MANIFEST, Content, Image, digest_of

ACCEPT = {"Accept": ", ".join(EVERY_MANIFEST)}


class Remote:
    """One connection pool to one registry. Close it, or use it as a context manager."""

    def __init__(self, url: str) -> None:
        self.url = url
        # A registry that never answers must fail a test, and the environment's proxies are not for 127.0.0.1.
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False, verify=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    # Pull

    def manifest(self, repository: str, reference: str) -> Content:
        """GET a manifest; its digest header, its digest and the HEAD must all agree."""
        path = f"/v2/{repository}/manifests/{reference}"
        answer = expect(self.http.get(path, headers=ACCEPT), 200)
        named = answer.headers["Docker-Content-Digest"]
        content = Content(answer.headers["Content-Type"], answer.content, named.partition(":")[0])
        assert named == content.digest
        head = expect(self.http.head(path, headers=ACCEPT), 200)
        for header in ("Docker-Content-Digest", "Content-Type", "Content-Length"):
            assert head.headers[header] == answer.headers[header], header
        return content

    def digest(self, repository: str, reference: str) -> str:
        """What HEAD says the tag names."""
        path = f"/v2/{repository}/manifests/{reference}"
        return str(expect(self.http.head(path, headers=ACCEPT), 200).headers["Docker-Content-Digest"])

    def blob(self, repository: str, digest: str) -> bytes:
        """GET a blob; the bytes must have the digest, and HEAD must agree."""
        path = f"/v2/{repository}/blobs/{digest}"
        answer = expect(self.http.get(path), 200)
        assert digest_of(answer.content, digest.partition(":")[0]) == digest
        head = expect(self.http.head(path), 200)
        assert int(head.headers["Content-Length"]) == len(answer.content)
        assert head.headers["Docker-Content-Digest"] == digest
        return answer.content

    def has_manifest(self, repository: str, reference: str) -> bool:
        path = f"/v2/{repository}/manifests/{reference}"
        return expect(self.http.head(path, headers=ACCEPT), 200, 404).status_code == 200

    def has_blob(self, repository: str, digest: str) -> bool:
        return expect(self.http.head(f"/v2/{repository}/blobs/{digest}"), 200, 404).status_code == 200

    def holds(self, repository: str, image: Image, reference: str | None = None) -> None:
        """Fail unless the whole image is there, to the byte: index, children, configs and layers."""
        top = self.manifest(repository, reference or image.digest)
        assert top.data == image.manifest.data
        for element in image.walk():
            by_digest = self.manifest(repository, element.digest)
            assert by_digest.data == element.manifest.data
            assert by_digest.media_type == element.manifest.media_type
            for blob in element.blobs:
                assert self.blob(repository, blob.digest) == blob.data

    # Push

    def begin(self, repository: str) -> str:
        """POST for an upload session; its location as an absolute address."""
        answer = expect(self.http.post(f"/v2/{repository}/blobs/uploads/"), 202)
        return urljoin(self.url, answer.headers["Location"])

    def push_blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> str:
        digest = digest_of(data, algorithm)
        location = httpx.URL(self.begin(repository)).copy_merge_params({"digest": digest})
        answer = expect(self.http.put(location, content=data), 201)
        assert answer.headers["Docker-Content-Digest"] == digest
        return digest

    def push_manifest(self, repository: str, manifest: Content, reference: str | None = None) -> httpx.Response:
        answer = expect(
            self.http.put(
                f"/v2/{repository}/manifests/{reference or manifest.digest}",
                content=manifest.data,
                headers={"Content-Type": manifest.media_type},
            ),
            201,
        )
        assert answer.headers["Docker-Content-Digest"] == manifest.digest
        return answer

    def push(self, repository: str, image: Image, *tags: str) -> None:
        """Push blobs, then children, then the manifest under each tag, or by digest where there is none."""
        for element in image.walk():
            for blob in element.blobs:
                self.push_blob(repository, blob.data, blob.algorithm)
            if element is not image:
                self.push_manifest(repository, element.manifest)
        for reference in tags or (image.digest,):
            self.push_manifest(repository, image.manifest, reference)

    def mount(self, repository: str, digest: str, source: str) -> int:
        answer = self.http.post(f"/v2/{repository}/blobs/uploads/", params={"mount": digest, "from": source})
        return expect(answer, 201, 202).status_code

    # Delete

    def delete_manifest(self, repository: str, reference: str) -> None:
        expect(self.http.delete(f"/v2/{repository}/manifests/{reference}"), 202)

    def delete_blob(self, repository: str, digest: str) -> None:
        expect(self.http.delete(f"/v2/{repository}/blobs/{digest}"), 202)

    # List

    def catalog(self) -> list[str]:
        return [name for page in self._pages("/v2/_catalog") for name in page["repositories"]]

    def tags(self, repository: str) -> list[str]:
        """All tags, sorted; registry:2 answers null for none, and in the order of its directory."""
        return sorted(tag for page in self._pages(f"/v2/{repository}/tags/list") for tag in page["tags"] or [])

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        return [entry for page in self._pages(f"/v2/{repository}/referrers/{digest}") for entry in page["manifests"]]

    def _pages(self, path: str) -> list[dict[str, Any]]:
        pages = []
        address: str | None = path
        while address:
            answer = expect(self.http.get(address), 200)
            pages.append(answer.json())
            address = answer.links.get("next", {}).get("url")
        return pages


def expect(answer: httpx.Response, *statuses: int) -> httpx.Response:
    """The answer, if its status is one of these; otherwise a failure that shows what was said."""
    request = answer.request
    assert answer.status_code in statuses, (
        f"{request.method} {request.url}: {answer.status_code}, wanted {statuses}: {answer.text[:500]}"
    )
    return answer
