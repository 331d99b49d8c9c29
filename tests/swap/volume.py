"""One volume that two registries use in turn: ours, and the registry:2 that it replaces."""

from pathlib import Path

from serving import PeerRegistry, Server


class Volume:
    """A root directory, and both registries on it. Only one of them may run at a time, as in a stack."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ours = Server(root)
        self.theirs = PeerRegistry(root)

    @property
    def v2(self) -> Path:
        return self.root / "docker" / "registry" / "v2"

    def data(self, digest: str) -> Path:
        """Where a blob's bytes are."""
        algorithm, _, hexadecimal = digest.partition(":")
        return self.v2 / "blobs" / algorithm / hexadecimal[:2] / hexadecimal / "data"

    def files(self) -> dict[str, bytes]:
        """Every file of registry:2's tree except upload sessions, by its path."""
        return {
            str(path.relative_to(self.v2)): path.read_bytes()
            for path in sorted(self.v2.rglob("*"))
            if path.is_file() and "_uploads" not in path.parts
        }
