"""The tree of errors: held against the table that people read, and against the specification."""

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci import errors
from registry.oci.errors import ManifestBlobUnknown, RegistryError

# distribution-spec, "Error Codes" (code-1 to code-14), typed from there; and the status that its endpoints give them.
SPECIFICATION = {
    "BLOB_UNKNOWN": {404},
    "BLOB_UPLOAD_INVALID": {400},
    "BLOB_UPLOAD_UNKNOWN": {404},
    "DIGEST_INVALID": {400},
    "MANIFEST_BLOB_UNKNOWN": {400, 404},
    "MANIFEST_INVALID": {400},
    "MANIFEST_UNKNOWN": {404},
    "NAME_INVALID": {400},
    "NAME_UNKNOWN": {404},
    "SIZE_INVALID": {400, 413},
    "UNAUTHORIZED": {401},
    "DENIED": {403, 412},
    "UNSUPPORTED": {404, 405},
    "TOOMANYREQUESTS": {429},
}

# Codes that registry:2 has and the specification has not; scripts test for them.
REGISTRY_2 = {
    "TAG_INVALID": {400},
    "RANGE_INVALID": {416},
    "PAGINATION_NUMBER_INVALID": {400},
    "UNAVAILABLE": {503, 507},
    "UNKNOWN": {500},
}


def descendants(kind: type[RegistryError]) -> Iterator[type[RegistryError]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


CLASSES = [kind for kind in descendants(RegistryError) if kind.__module__ == errors.__name__]


def make(kind: type[RegistryError], **more: object) -> RegistryError:
    return kind(["sha256:abc"]) if kind is ManifestBlobUnknown else kind(**more)  # type: ignore[arg-type]


def table() -> list[tuple[int, str, str, int, bool]]:
    """Rows of the docstring: indentation, class, code, status, whether it is marked as registry:2's."""
    rows = re.findall(
        r"^ {4}( *)([A-Z]\w+) +([A-Z]+(?:_[A-Z]+)*|[A-Z]+) +([0-9]{3}) +\S.*?( +\(registry:2\))?$",
        errors.__doc__ or "",
        re.MULTILINE,
    )
    return [(len(indent), name, code, int(status), bool(mark)) for indent, name, code, status, mark in rows]


def test_every_class_is_one_row_of_the_table_and_every_row_one_class() -> None:
    rows = {name: (code, status) for _, name, code, status, _ in table()}
    assert len(rows) == len(table()), "a class stands in the table twice"
    assert rows == {kind.__name__: (kind.code, kind.status) for kind in CLASSES}


def test_the_table_s_indentation_is_the_inheritance() -> None:
    parents: list[str] = []
    for indent, name, _, _, _ in table():
        level = indent // 2
        parents[level:] = [name]
        (base,) = getattr(errors, name).__bases__
        assert base.__name__ == (parents[level - 1] if level else "RegistryError")


def test_every_code_of_the_specification_has_a_class_with_a_status_that_fits() -> None:
    ours = {kind.code: set[int]() for kind in CLASSES}
    for kind in CLASSES:
        ours[kind.code].add(kind.status)
    assert ours.keys() == SPECIFICATION.keys() | REGISTRY_2.keys()
    for code, statuses in ours.items():
        assert statuses <= (SPECIFICATION | REGISTRY_2)[code], code


def test_the_codes_that_the_specification_has_not_are_marked_as_registry_2_s() -> None:
    for _, name, code, _, marked in table():
        inherited = getattr(errors, name).__base__ is not RegistryError
        assert marked is (code in REGISTRY_2) or (inherited and not marked), name


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_says_something_of_its_own_in_json(kind: type[RegistryError]) -> None:
    error = make(kind)
    assert error.message
    assert str(error) == error.message
    (entry,) = json.loads(json.dumps(error.entries()))
    assert set(entry) == {"code", "message", "detail"}
    assert entry["code"] == kind.code
    assert re.fullmatch(r"[A-Z_]+", kind.code)
    assert 400 <= kind.status < 600


@given(
    kind=st.sampled_from([kind for kind in CLASSES if kind is not ManifestBlobUnknown]),
    message=st.text(),
    detail=st.none() | st.dictionaries(st.text(), st.integers()),
    header=st.text(),
)
def test_an_error_carries_what_it_was_given(
    kind: type[RegistryError], message: str, detail: dict[str, int] | None, header: str
) -> None:
    error = kind(message, detail=detail, headers={"Retry-After": header})
    assert error.message == (message or kind.summary)
    assert error.entries() == [{"code": kind.code, "message": error.message, "detail": detail}]
    assert error.headers == {"Retry-After": header}


def test_two_errors_do_not_share_their_headers() -> None:
    one, other = errors.Denied(), errors.Denied()
    one.headers["X"] = "y"
    assert other.headers == {}


def test_every_missing_blob_has_its_own_entry() -> None:
    error = ManifestBlobUnknown(digest for digest in ("sha256:a", "sha256:b"))
    assert [entry["detail"] for entry in error.entries()] == [{"digest": "sha256:a"}, {"digest": "sha256:b"}]
    assert {entry["code"] for entry in error.entries()} == {"MANIFEST_BLOB_UNKNOWN"}
    assert "sha256:a, sha256:b" in error.message


def test_docker_shows_the_message_of_a_4xx_alone_so_only_our_own_trouble_is_a_5xx() -> None:
    fives = {kind.__name__ for kind in CLASSES if kind.status >= 500}
    assert fives == {"Unavailable", "UploadBusy", "StorageFull", "InternalError"}
