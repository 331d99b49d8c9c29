"""What the tests of passwords share: a clock that is set, and a bcrypt that counts."""

from dataclasses import dataclass, field

import pytest

from registry.auth.htpasswd import matches


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bcrypt:
    """Checks as it should, and notes what it is asked."""

    checked: list[bytes] = field(default_factory=list)
    against: list[bytes] = field(default_factory=list)

    def __call__(self, password: bytes, hashed: bytes) -> bool:
        self.checked.append(password)
        self.against.append(hashed)
        return matches(password, hashed)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counting() -> Bcrypt:
    return Bcrypt()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "htpasswd"
