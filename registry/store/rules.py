"""What a manifest may reference, beyond what is there: registry:2's and registry:3's `validation` settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.oci.errors import ManifestInvalid

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from registry.oci.manifest import Descriptor, Manifest, Platform


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules for the descriptors of a manifest that is pushed.

    Attributes:
        platforms: an index's children for these must be there; None = all children must, empty = none must.
        allow: addresses in `urls` must match one of these; empty = any address.
        deny: and none of these.
    """

    platforms: frozenset[Platform] | None = None
    allow: tuple[re.Pattern[str], ...] = ()
    deny: tuple[re.Pattern[str], ...] = ()

    def needs(self, child: Descriptor) -> bool:
        """Whether an index's child has to be in the repository."""
        if self.platforms is None:
            return True
        return child.platform is not None and any(_fits(child.platform, wanted) for wanted in self.platforms)

    def check(self, manifest: Manifest) -> None:
        """Raises ManifestInvalid where an address in `urls` is not allowed."""
        for url in _urls(manifest):
            allowed = not self.allow or any(pattern.search(url) for pattern in self.allow)
            if not allowed or any(pattern.search(url) for pattern in self.deny):
                raise ManifestInvalid(
                    f"manifest invalid: the address {url!r} is not allowed (validation.manifests.urls)"
                )


def _urls(manifest: Manifest) -> Iterator[str]:
    for descriptor in (*manifest.blobs, *manifest.children):
        yield from descriptor.urls or ()


def _fits(platform: Platform, wanted: Platform) -> bool:
    same = (platform.architecture, platform.os) == (wanted.architecture, wanted.os)
    return same and wanted.variant in ("", platform.variant)
