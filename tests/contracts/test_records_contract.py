"""`Records`: every sentence of `registry/storage/base.py`, on every medium."""

import threading
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import Medium, filesystem, memory

from registry.storage.base import Busy, Key, Missing, Records

LINK = Key("docker/registry/v2/repositories/a/_manifests/tags/latest/current/link")
TAG = Key("docker/registry/v2/repositories/a/_manifests/tags/latest")
TAGS = Key("docker/registry/v2/repositories/a/_manifests/tags")
LOCK = Key("swarm-registry/locks/aa")


def below(collection: str, *names: str) -> Key:
    return Key("/".join([collection, *names]))


# Values


@pytest.mark.parametrize("value", [b"sha256:abc", b"\0\n\xff", b"x" * 100_000])
def test_what_was_written_is_read(medium: Medium, value: bytes) -> None:
    medium.records.write(LINK, value)
    assert medium.records.read(LINK) == value
    assert medium.other_records().read(LINK) == value


def test_a_write_replaces(medium: Medium) -> None:
    for value in (b"a long first value", b"short", b"", b"again"):
        medium.records.write(LINK, value)
        assert medium.other_records().read(LINK) == value


def test_it_is_known_when_a_value_was_last_written(medium: Medium) -> None:
    begun = time.time()
    medium.records.write(LINK, b"first")
    first = medium.other_records().written(LINK)
    assert begun - 1 <= first <= time.time() + 1
    time.sleep(0.05)
    medium.records.write(LINK, b"first")  # also when it is the same again
    assert medium.records.written(LINK) > first
    medium.records.delete(LINK)
    with pytest.raises(Missing):
        medium.records.written(LINK)


def test_what_was_never_written_is_missing(records: Records) -> None:
    with pytest.raises(Missing):
        records.read(LINK)
    with pytest.raises(Missing):
        records.delete(LINK)


def test_a_collection_is_no_value(records: Records) -> None:
    records.write(LINK, b"x")
    with pytest.raises(Missing):
        records.read(TAG)


def test_nothing_is_below_a_value(records: Records) -> None:
    records.write(LINK, b"x")
    for read in (records.read, records.delete):
        with pytest.raises(Missing):
            read(below(LINK, "more"))
    assert records.list(LINK) == []


def test_a_deleted_value_is_missing(medium: Medium) -> None:
    medium.records.write(LINK, b"x")
    medium.other_records().delete(LINK)
    with pytest.raises(Missing):
        medium.records.read(LINK)
    with pytest.raises(Missing):
        medium.records.delete(LINK)
    medium.records.write(LINK, b"y")
    assert medium.records.read(LINK) == b"y"


def test_readers_see_the_old_value_or_the_new_one_and_never_a_part(medium: Medium) -> None:
    values = [bytes([65 + number]) * 5000 for number in range(4)]
    medium.records.write(LINK, values[0])
    done = threading.Event()
    seen: set[bytes] = set()
    odd: list[object] = []

    def read() -> None:
        records = medium.other_records()
        while not done.is_set():
            try:
                value = records.read(LINK)
            except Missing as error:
                odd.append(error)
            else:
                seen.add(value)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    deadline = time.monotonic() + 0.5
    count = 0
    while time.monotonic() < deadline:
        count += 1
        medium.records.write(LINK, values[count % 4])
    done.set()
    for reader in readers:
        reader.join(10)
    assert odd == []
    assert seen <= set(values)
    assert len(seen) > 1, "the test saw no change at all"


def test_the_last_of_concurrent_writes_stands_whole(medium: Medium) -> None:
    values = [bytes([65 + number]) * 3000 for number in range(8)]
    threads = [
        threading.Thread(target=lambda value=value: [medium.other_records().write(LINK, value) for _ in range(10)])
        for value in values
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert medium.records.read(LINK) in values
    assert medium.records.list(below(TAG, "current")) == ["link"]


# Collections


def test_a_list_has_the_names_directly_below(medium: Medium) -> None:
    for tag in ("one", "two", "three"):
        medium.records.write(below(TAGS, tag, "current", "link"), b"x")
        medium.records.write(below(TAGS, tag, "index", "sha256", "abc", "link"), b"x")
    for records in (medium.records, medium.other_records()):
        assert sorted(records.list(TAGS)) == ["one", "three", "two"]
        assert sorted(records.list(below(TAGS, "one"))) == ["current", "index"]
        assert records.list(below(TAGS, "one", "current")) == ["link"]


def test_a_list_of_nothing_is_empty(records: Records) -> None:
    assert records.list(TAGS) == []
    records.write(LINK, b"x")
    assert records.list(below(TAGS, "other")) == []
    assert records.list(below(TAGS, "lat")) == []


def test_a_collection_can_be_kept_with_nothing_in_it(medium: Medium) -> None:
    medium.records.keep(TAGS)
    assert medium.records.list(TAGS) == []
    assert medium.other_records().list(Key("docker/registry/v2/repositories/a/_manifests")) == ["tags"]
    medium.records.keep(TAGS)
    medium.records.write(LINK, b"x")
    medium.records.keep(TAGS)
    assert medium.records.list(TAGS) == ["latest"]
    assert medium.records.read(LINK) == b"x"


def test_a_collection_stays_when_its_last_value_goes(medium: Medium) -> None:
    """The store tells a repository without tags from one that never was."""
    medium.records.write(LINK, b"x")
    medium.records.delete(LINK)
    assert medium.other_records().list(TAGS) == ["latest"]
    medium.records.clear(TAG)
    assert medium.other_records().list(TAGS) == []
    assert medium.other_records().list(Key("docker/registry/v2/repositories/a/_manifests")) == ["tags"]


def test_clearing_removes_everything_below_and_nothing_beside(medium: Medium) -> None:
    inside = [LINK, below(TAG, "index", "sha256", "a", "link"), below(TAG, "index", "sha256", "b", "link")]
    beside = [below(TAGS, "latest-1", "current", "link"), below(TAGS, "lates", "current", "link")]
    for key in (*inside, *beside):
        medium.records.write(key, b"x")
    medium.other_records().clear(TAG)
    for key in inside:
        with pytest.raises(Missing):
            medium.records.read(key)
    for key in beside:
        assert medium.records.read(key) == b"x"
    assert medium.records.list(TAG) == []
    assert sorted(medium.records.list(TAGS)) == ["lates", "latest-1"]


def test_clearing_nothing_is_no_error(records: Records) -> None:
    records.clear(TAG)
    records.write(LINK, b"x")
    records.clear(TAG)
    records.clear(TAG)


def test_what_was_cleared_can_be_written_again(medium: Medium) -> None:
    for number in range(3):
        medium.records.write(LINK, b"%d" % number)
        assert medium.records.read(LINK) == b"%d" % number
        medium.other_records().clear(TAG)
        medium.other_records().clear(TAGS)


def test_writing_while_others_clear_neither_fails_nor_leaves_a_part(medium: Medium) -> None:
    done = threading.Event()
    failed: list[BaseException] = []

    def clear() -> None:
        records = medium.other_records()
        while not done.wait(0.01):
            try:
                records.clear(TAG)
            except BaseException as error:
                failed.append(error)
                return

    clearer = threading.Thread(target=clear)
    clearer.start()
    try:
        for _ in range(300):
            medium.records.write(LINK, b"x" * 100)
            try:
                assert medium.records.read(LINK) == b"x" * 100
            except Missing:
                continue
    finally:
        done.set()
        clearer.join(10)
    assert failed == []


# Versions


def test_a_version_differs_once_a_name_came_or_went_or_is_not_known(medium: Medium) -> None:
    versions = [medium.records.version(TAGS)]
    for name in ("a", "b"):
        medium.records.write(below(TAGS, name, "current", "link"), b"x")
        versions.append(medium.records.version(TAGS))
    medium.records.clear(below(TAGS, "a"))
    versions.append(medium.records.version(TAGS))
    known = [version for version in versions if version is not None]
    assert len(known) == len(set(known))


# Locks


@pytest.mark.parametrize(
    ("held", "wanted"), [("exclusive", "exclusive"), ("exclusive", "shared"), ("shared", "exclusive")]
)
def test_an_exclusive_lock_is_held_alone(medium: Medium, held: str, wanted: str) -> None:
    entered, order = threading.Event(), list[str]()

    def second() -> None:
        entered.set()
        with getattr(medium.other_records(), wanted)(LOCK):
            order.append("second")

    with getattr(medium.records, held)(LOCK):
        thread = threading.Thread(target=second)
        thread.start()
        assert entered.wait(10)
        thread.join(0.1)
        assert thread.is_alive()
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


@pytest.mark.parametrize("kind", ["shared", "exclusive"])
def test_a_lock_is_given_back_when_its_block_fails(medium: Medium, kind: str) -> None:
    with pytest.raises(ZeroDivisionError), getattr(medium.records, kind)(LOCK):
        raise ZeroDivisionError
    with medium.other_records().exclusive(LOCK):
        pass


def test_locks_keep_counts_right_among_many_threads(medium: Medium) -> None:
    counter = [0]

    def count() -> None:
        records = medium.other_records()
        for _ in range(20):
            with records.exclusive(LOCK):
                before = counter[0]
                time.sleep(0)
                counter[0] = before + 1

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert counter == [160]


def test_a_lock_is_no_record_of_the_registry_s_tree(records: Records) -> None:
    with records.exclusive(LOCK):
        assert records.list(Key("docker")) == []


# All of it, in any order

NAMES = st.sampled_from(["a", "b", "a-b", "ab"])
COLLECTIONS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), COLLECTIONS, st.binary(max_size=5)),
        st.tuples(st.just("delete"), COLLECTIONS, st.none()),
        st.tuples(st.just("clear"), COLLECTIONS, st.none()),
    ),
    max_size=20,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_both_media_hold_the_same_values_after_the_same_changes(
    directory: Path, operations: list[tuple[str, str, bytes | None]]
) -> None:
    """Values are in files called `link`, so that no key is another one's collection, as in registry:2's tree."""
    media = [memory(), filesystem(directory / str(uuid.uuid4()))]
    model: dict[str, bytes] = {}
    for operation, collection, value in operations:
        for medium in media:
            apply(medium.records, operation, collection, value, is_there=collection in model)
        match operation:
            case "write":
                model[collection] = value or b""
            case "delete":
                model.pop(collection, None)
            case "clear":
                model = {key: kept for key, kept in model.items() if not f"{key}/".startswith(f"{collection}/")}
    for medium in media:
        for collection, kept in model.items():
            assert medium.records.read(Key(f"root/{collection}/link")) == kept
            assert "link" in medium.records.list(Key(f"root/{collection}"))


def apply(records: Records, operation: str, collection: str, value: bytes | None, *, is_there: bool) -> None:
    key = Key(f"root/{collection}/link")
    match operation:
        case "write":
            records.write(key, value or b"")
        case "delete" if is_there:
            records.delete(key)
        case "delete":
            with pytest.raises(Missing):
                records.delete(key)
        case "clear":
            records.clear(Key(f"root/{collection}"))


# Condemning


def test_a_condemned_value_is_missing(medium: Medium) -> None:
    medium.records.write(LINK, b"x")
    medium.date(LINK, 1_000_000)
    assert medium.records.condemn(LINK, 1_000_001) is True
    with pytest.raises(Missing):
        medium.other_records().read(LINK)
    assert medium.records.condemn(LINK, time.time()) is False


def test_a_value_that_is_not_older_than_the_cutoff_stays(medium: Medium) -> None:
    medium.records.write(LINK, b"x")
    assert medium.records.condemn(LINK, time.time() - 5) is False
    medium.date(LINK, 1_000_000)
    assert medium.records.condemn(LINK, 1_000_000) is False
    medium.records.write(LINK, b"y")
    assert medium.records.condemn(LINK, time.time() - 5) is False
    assert medium.records.read(LINK) == b"y"


def test_a_condemned_value_can_be_written_again(medium: Medium) -> None:
    other = medium.other_records()
    for value in (b"x", b"y"):
        other.write(LINK, value)
        assert other.read(LINK) == value
        medium.date(LINK, 1_000_000)
        assert medium.records.condemn(LINK, 2_000_000)
    assert TAG.rpartition("/")[2] in medium.records.list(TAGS)


def test_restoring_where_nobody_was_killed_changes_nothing(records: Records) -> None:
    records.restore()
    records.write(LINK, b"x")
    records.restore()
    assert records.read(LINK) == b"x"


# A lock that is not waited for


def test_a_lock_that_nobody_holds_is_had_at_once(medium: Medium) -> None:
    for records in (medium.records, medium.other_records()):
        with records.exclusive_at_once(LOCK):
            pass


def test_a_lock_that_another_one_holds_is_busy_at_once(medium: Medium) -> None:
    with medium.other_records().exclusive_at_once(LOCK):
        with pytest.raises(Busy), medium.records.exclusive_at_once(LOCK):
            pass
        with medium.records.exclusive_at_once(below("swarm-registry/locks", "bb")):
            pass
    with medium.records.exclusive_at_once(LOCK):
        pass
