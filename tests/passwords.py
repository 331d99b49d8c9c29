"""Registries that ask for passwords."""

from pathlib import Path
from typing import Any

from serving import Server

from registry.auth.htpasswd import hash_of

REALM = "Registry Realm"
LEAST_COST = 4


def line(user: str, password: str, cost: int = LEAST_COST) -> str:
    return f"{user}:{hash_of(password, cost).decode()}\n"


def write(path: Path, cost: int = LEAST_COST, **users: str) -> Path:
    """An htpasswd file, replaced at once."""
    new = path.with_suffix(".new")
    new.write_text("".join(line(user, password, cost) for user, password in users.items()))
    return new.rename(path)


def variables(path: Path) -> dict[str, str]:
    """As stacks of registry:2 set them."""
    return {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": REALM,
        "REGISTRY_AUTH_HTPASSWD_PATH": str(path),
    }


class Guarded(Server):
    """Our registry, with `alice` and her `secret`; the file is beside its tree.

    One process serves, unless a test says otherwise: of several each looks at the file in its own time.
    """

    def __init__(self, root: Path, **given: Any) -> None:
        super().__init__(root, **given)
        self.users = write(root.with_name("htpasswd"), alice="secret")
        self.environment = {"REGISTRY_HTTP_WORKERS": "1"} | variables(self.users) | self.environment
