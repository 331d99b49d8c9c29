"""`Blobs` and `Draft`: every sentence of `registry/storage/base.py`, on every medium."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from media import Medium, filesystem, memory

from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid
from registry.storage.base import Blobs, BlobSource, Busy, Draft, Key, Missing, first_bytes

KEY = Key("docker/registry/v2/repositories/a/b/_uploads/00000000-0000-4000-8000-000000000000")
OTHER_KEY = Key("docker/registry/v2/repositories/a/b/_uploads/00000000-0000-4000-8000-000000000001")
ONE, TWO = b"one" * 1000, b"two" * 1000

IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

Content = Callable[[BlobSource], bytes]


def begun(blobs: Blobs, *parts: bytes, key: Key = KEY, algorithm: str = "sha256") -> Draft:
    draft = blobs.begin(key, algorithm)
    for part in parts:
        draft.write([part])
    return draft


def finish(draft: Draft, data: bytes, algorithm: str = "sha256") -> Digest:
    digest = Digest.of(data, algorithm)
    assert draft.commit(digest) == len(data)
    draft.close()
    return digest


# Blobs


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("data", [b"", b"x", ONE * 500])
def test_a_blob_that_was_put_is_there_whole(medium: Medium, content_of: Content, data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    medium.blobs.put(digest, data)
    for blobs in (medium.blobs, medium.other_blobs()):
        assert blobs.size(digest) == len(data)
        assert blobs.read(digest, len(data)) == data
        assert content_of(blobs.open(digest)) == data
        assert blobs.promise(digest) == len(data)


def test_what_is_not_there_is_missing_for_every_reader(blobs: Blobs) -> None:
    digest = Digest.of(b"nothing here")
    blobs.put(Digest.of(ONE), ONE)
    readers: list[Callable[[Digest], Any]] = [
        blobs.size,
        blobs.open,
        lambda missing: blobs.read(missing, 100),
        blobs.promise,
        lambda missing: blobs.promise(missing, lease=60),
    ]
    for read in readers:
        with pytest.raises(Missing):
            read(digest)


def test_put_verifies(blobs: Blobs) -> None:
    digest = Digest.of(ONE)
    with pytest.raises(DigestInvalid):
        blobs.put(digest, TWO)
    with pytest.raises(Missing):
        blobs.size(digest)


def test_a_put_that_is_refused_leaves_the_blob_that_is_there(blobs: Blobs) -> None:
    digest = Digest.of(ONE)
    blobs.put(digest, ONE)
    with pytest.raises(DigestInvalid):
        blobs.put(digest, TWO)
    assert blobs.read(digest, 10_000) == ONE


def test_put_replaces_a_damaged_blob(medium: Medium) -> None:
    digest = Digest.of(ONE)
    medium.blobs.put(digest, ONE)
    medium.damage(digest, ONE[:-1] + b"!")
    medium.blobs.put(digest, ONE)
    assert medium.blobs.read(digest, 10_000) == ONE


def test_a_blob_above_the_limit_is_missing_to_a_reader_into_memory(blobs: Blobs) -> None:
    digest = Digest.of(ONE)
    blobs.put(digest, ONE)
    assert blobs.read(digest, len(ONE)) == ONE
    with pytest.raises(Missing):
        blobs.read(digest, len(ONE) - 1)


def test_one_content_under_two_algorithms_is_two_blobs(blobs: Blobs) -> None:
    blobs.put(Digest.of(ONE, "sha512"), ONE)
    with pytest.raises(Missing):
        blobs.size(Digest.of(ONE, "sha256"))


@pytest.mark.parametrize("lease", [0, 0.001, 60, 10**9])
def test_a_promise_tells_the_size_with_and_without_a_lease(blobs: Blobs, lease: float) -> None:
    digest = Digest.of(ONE)
    blobs.put(digest, ONE)
    assert blobs.promise(digest, lease=lease) == len(ONE)


def test_a_stream_gives_no_bytes_only_at_its_end(blobs: Blobs) -> None:
    blobs.put(Digest.of(ONE), ONE)
    source = blobs.open(Digest.of(ONE))
    if (read := getattr(source, "read", None)) is not None:
        assert read(0, 1) == ONE[:1]
        assert read(len(ONE) - 1, 100) == ONE[-1:]
        assert read(len(ONE), 100) == b""
    source.close()


# Blobs: leases, and their end


def test_a_walk_finds_every_blob_with_its_size_and_lease(medium: Medium) -> None:
    before = time.time() - 1
    digests = {Digest.of(ONE), Digest.of(ONE, "sha512"), finish(begun(medium.blobs, TWO), TWO)}
    medium.blobs.put(Digest.of(ONE), ONE)
    medium.blobs.put(Digest.of(ONE, "sha512"), ONE)
    begun(medium.blobs, b"a draft is no blob", key=OTHER_KEY).close()
    medium.renew(Digest.of(ONE), 1_000_000)
    for blobs in (medium.blobs, medium.other_blobs()):
        found = {blob.digest: blob for blob in blobs.walk()}
        assert found.keys() == digests
        assert {blob.size for blob in found.values()} == {3000}
        assert found[Digest.of(ONE)].renewed == blobs.renewed(Digest.of(ONE)) == 1_000_000
        assert all(found[digest].renewed > before for digest in digests - {Digest.of(ONE)})


def test_a_walk_over_nothing_finds_nothing(blobs: Blobs) -> None:
    assert list(blobs.walk()) == []


def test_what_was_put_or_committed_or_promised_has_a_new_lease(medium: Medium) -> None:
    digest = Digest.of(ONE)
    renewals: list[Callable[[], object]] = [
        lambda: medium.blobs.put(digest, ONE),
        lambda: finish(begun(medium.blobs, ONE), ONE),
        lambda: medium.other_blobs().promise(digest),
        lambda: medium.other_blobs().promise(digest, lease=60),
    ]
    for renew in renewals:
        if renew is not renewals[0]:
            medium.renew(digest, 1_000_000)
        renew()
        assert medium.blobs.renewed(digest) > time.time() - 10


def test_a_promise_leaves_a_lease_that_is_young_enough(medium: Medium) -> None:
    digest, then = Digest.of(ONE), time.time() - 100
    medium.blobs.put(digest, ONE)
    medium.renew(digest, then)
    medium.blobs.promise(digest, lease=200)
    assert medium.blobs.renewed(digest) == pytest.approx(then)
    medium.blobs.promise(digest, lease=50)
    assert medium.blobs.renewed(digest) > then + 50


def test_a_condemned_blob_is_missing_and_its_bytes_are_told(medium: Medium) -> None:
    digest = Digest.of(ONE)
    medium.blobs.put(digest, ONE)
    medium.renew(digest, 1_000_000)
    assert medium.blobs.condemn(digest, 1_000_001) == len(ONE)
    for blobs in (medium.blobs, medium.other_blobs()):
        with pytest.raises(Missing):
            blobs.size(digest)
        with pytest.raises(Missing):
            blobs.promise(digest)
        with pytest.raises(Missing):
            blobs.renewed(digest)
        assert list(blobs.walk()) == []
    assert medium.blobs.condemn(digest, time.time()) is None


def test_the_blob_of_nothing_is_condemned_with_zero_bytes(medium: Medium) -> None:
    digest = Digest.of(b"")
    medium.blobs.put(digest, b"")
    medium.renew(digest, 1_000_000)
    assert medium.blobs.condemn(digest, 2_000_000) == 0


def test_a_blob_whose_lease_is_not_older_than_the_cutoff_stays(medium: Medium) -> None:
    digest = Digest.of(ONE)
    medium.blobs.put(digest, ONE)
    medium.renew(digest, 1_000_000)
    assert medium.blobs.condemn(digest, 1_000_000) is None
    medium.blobs.promise(digest)
    assert medium.blobs.condemn(digest, time.time() - 5) is None
    assert medium.blobs.read(digest, 10_000) == ONE


def test_a_condemned_blob_can_be_put_and_committed_again(medium: Medium) -> None:
    other = medium.other_blobs()
    for again in (lambda: other.put(Digest.of(ONE), ONE), lambda: finish(begun(other, ONE), ONE)):
        again()
        medium.renew(Digest.of(ONE), 1_000_000)
        assert medium.blobs.condemn(Digest.of(ONE), 2_000_000) == len(ONE)
        again()
        assert medium.blobs.read(Digest.of(ONE), 10_000) == ONE


def test_an_open_blob_can_be_read_after_it_was_condemned(
    medium: Medium, content_of: Callable[[BlobSource], bytes]
) -> None:
    """A pull under way does not notice."""
    digest = Digest.of(ONE)
    medium.blobs.put(digest, ONE)
    source = medium.blobs.open(digest)
    medium.renew(digest, 1_000_000)
    medium.blobs.condemn(digest, 2_000_000)
    assert content_of(source) == ONE


def test_the_first_bytes_of_a_blob(blobs: Blobs) -> None:
    blobs.put(Digest.of(ONE), ONE)
    assert first_bytes(blobs.open(Digest.of(ONE)), 4) == ONE[:4]


def test_restoring_where_nobody_was_killed_changes_nothing(blobs: Blobs) -> None:
    blobs.restore()
    blobs.put(Digest.of(ONE), ONE)
    blobs.restore()
    assert [blob.digest for blob in blobs.walk()] == [Digest.of(ONE)]


# Drafts: writing and committing


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("parts", [[], [b""], [ONE], [ONE, TWO, b"", ONE]])
def test_a_committed_draft_is_a_blob(medium: Medium, content_of: Content, parts: list[bytes], algorithm: str) -> None:
    data = b"".join(parts)
    digest = finish(begun(medium.blobs, *parts, algorithm=algorithm), data, algorithm)
    for blobs in (medium.blobs, medium.other_blobs()):
        assert content_of(blobs.open(digest)) == data
        assert blobs.size(digest) == len(data)


def test_nothing_is_visible_before_the_commit(blobs: Blobs) -> None:
    draft = begun(blobs, ONE)
    draft.checkpoint()
    with pytest.raises(Missing):
        blobs.size(Digest.of(ONE))
    draft.close()
    with pytest.raises(Missing):
        blobs.size(Digest.of(ONE))


def test_the_offset_is_the_bytes_of_this_and_earlier_openings(blobs: Blobs) -> None:
    draft = begun(blobs)
    assert draft.offset == 0
    draft.write([ONE, TWO])
    assert draft.offset == 6000
    draft.checkpoint()
    assert draft.offset == 6000
    draft.close()
    draft = blobs.resume(KEY)
    assert draft.offset == 6000
    draft.write([b"x"])
    assert draft.offset == 6001
    draft.close()


def test_a_batch_has_parts_of_every_kind_and_any_number(blobs: Blobs) -> None:
    draft = begun(blobs)
    draft.write([])
    draft.write([b"", bytearray(b"ab"), memoryview(b"cd"), b""])
    draft.write([b"%04d" % number for number in range(3000)])
    finish(draft, b"abcd" + b"".join(b"%04d" % number for number in range(3000)))


def test_a_buffer_may_be_used_again_after_it_was_written(blobs: Blobs) -> None:
    draft = begun(blobs)
    buffer = bytearray(b"first")
    draft.write([buffer])
    buffer[:] = b"again"
    draft.write([buffer])
    finish(draft, b"firstagain")


def test_expecting_bytes_writes_none(blobs: Blobs) -> None:
    draft = begun(blobs)
    draft.expect(10_000)
    assert draft.offset == 0
    finish(draft, b"")


def test_a_commit_verifies_and_leaves_the_draft_at_its_checkpoint(medium: Medium) -> None:
    draft = begun(medium.blobs, ONE)
    draft.checkpoint()
    draft.write([b"!"])
    for algorithm in ("sha256", "sha512"):
        with pytest.raises(DigestInvalid):
            draft.commit(Digest.of(ONE + TWO, algorithm))
    with pytest.raises(Missing):
        medium.blobs.size(Digest.of(ONE + TWO))
    draft.close()
    again = medium.other_blobs().resume(KEY)
    assert again.offset == len(ONE)
    again.write([TWO])
    finish(again, ONE + TWO)


def test_a_commit_without_a_checkpoint_that_is_refused_leaves_an_empty_draft(blobs: Blobs) -> None:
    draft = begun(blobs, ONE)
    with pytest.raises(DigestInvalid):
        draft.commit(Digest.of(TWO))
    draft.close()
    assert blobs.offset(KEY) == 0


def test_a_refused_commit_can_be_followed_by_the_right_one(blobs: Blobs) -> None:
    draft = begun(blobs, ONE)
    with pytest.raises(DigestInvalid):
        draft.commit(Digest.of(TWO))
    finish(draft, ONE)


def test_a_commit_replaces_a_damaged_blob(medium: Medium) -> None:
    digest = Digest.of(ONE)
    medium.blobs.put(digest, ONE)
    medium.damage(digest, b"rotten")
    finish(begun(medium.blobs, ONE), ONE)
    assert medium.blobs.read(digest, 10_000) == ONE


def test_two_drafts_of_one_content_both_commit(blobs: Blobs) -> None:
    one, other = begun(blobs, ONE), begun(blobs, ONE, key=OTHER_KEY)
    assert finish(one, ONE) == finish(other, ONE)
    assert blobs.read(Digest.of(ONE), 10_000) == ONE


@pytest.mark.parametrize(("begun_as", "named_by"), [("sha256", "sha512"), ("sha512", "sha256")])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_blob_may_be_named_by_the_other_algorithm(
    medium: Medium,
    begun_as: str,
    named_by: str,
    resumed: bool,  # noqa: FBT001
) -> None:
    draft = begun(medium.blobs, ONE, algorithm=begun_as)
    if resumed:
        draft.checkpoint()
        draft.close()
        draft = medium.other_blobs().resume(KEY)
    draft.write([TWO])
    digest = finish(draft, ONE + TWO, named_by)
    assert medium.blobs.read(digest, 10_000) == ONE + TWO
    with pytest.raises(Missing):
        medium.blobs.size(Digest.of(ONE + TWO, begun_as))


def test_a_committed_draft_is_over(blobs: Blobs) -> None:
    finish(begun(blobs, ONE), ONE)
    with pytest.raises(Missing):
        blobs.resume(KEY)
    with pytest.raises(Missing):
        blobs.offset(KEY)
    blobs.discard(KEY)
    assert blobs.read(Digest.of(ONE), 10_000) == ONE


# Drafts: checkpoints


def test_only_checkpointed_bytes_count_when_it_is_opened_again(medium: Medium) -> None:
    draft = begun(medium.blobs, ONE)
    draft.checkpoint()
    draft.write([TWO])
    draft.close()
    for blobs in (medium.blobs, medium.other_blobs()):
        again = blobs.resume(KEY)
        assert again.offset == len(ONE)
        again.close()
    draft = medium.other_blobs().resume(KEY)
    draft.write([b"three"])
    finish(draft, ONE + b"three")


def test_a_draft_that_was_never_checkpointed_opens_again_empty(blobs: Blobs) -> None:
    begun(blobs, ONE).close()
    draft = blobs.resume(KEY)
    assert draft.offset == 0
    draft.write([TWO])
    finish(draft, TWO)


def test_a_resumed_draft_that_is_committed_as_it_is_has_the_checkpointed_bytes(medium: Medium) -> None:
    draft = begun(medium.blobs, ONE)
    draft.checkpoint()
    draft.write([TWO])
    draft.close()
    finish(medium.other_blobs().resume(KEY), ONE)
    assert medium.blobs.size(Digest.of(ONE)) == len(ONE)


def test_it_goes_on_in_turns_of_two_processes(medium: Medium) -> None:
    begun(medium.blobs).close()
    data = b""
    for turn in range(6):
        blobs = medium.blobs if turn % 2 else medium.other_blobs()
        draft = blobs.resume(KEY)
        assert draft.offset == len(data)
        part = b"%d" % turn * 100
        draft.write([part])
        draft.checkpoint()
        draft.write([b"lost"])
        draft.close()
        data += part
    finish(medium.blobs.resume(KEY), data)


def test_several_checkpoints_in_one_opening_each_count(blobs: Blobs) -> None:
    draft = begun(blobs)
    for number in range(5):
        draft.write([b"%d" % number])
        draft.checkpoint()
        assert blobs.offset(KEY) == number + 1
        draft.checkpoint()
    draft.close()
    finish(blobs.resume(KEY), b"01234")


def test_the_offset_of_a_draft_is_its_checkpoint_also_while_it_is_written(medium: Medium) -> None:
    draft = begun(medium.blobs)
    assert medium.blobs.offset(KEY) == 0
    draft.write([ONE])
    assert medium.other_blobs().offset(KEY) == 0
    draft.checkpoint()
    assert medium.other_blobs().offset(KEY) == len(ONE)
    draft.write([TWO])
    assert medium.blobs.offset(KEY) == len(ONE)
    draft.close()
    assert medium.blobs.offset(KEY) == len(ONE)


# Drafts: writers


def test_a_draft_has_one_writer(medium: Medium) -> None:
    draft = begun(medium.blobs, ONE)
    for blobs in (medium.blobs, medium.other_blobs()):
        with pytest.raises(Busy):
            blobs.resume(KEY)
    draft.checkpoint()
    draft.close()
    second = medium.other_blobs().resume(KEY)
    with pytest.raises(Busy):
        medium.blobs.resume(KEY)
    second.close()
    medium.blobs.resume(KEY).close()


def test_a_writer_that_was_refused_leaves_the_first_in_peace(medium: Medium) -> None:
    draft = begun(medium.blobs, ONE)
    with pytest.raises(Busy):
        medium.other_blobs().resume(KEY)
    draft.write([TWO])
    finish(draft, ONE + TWO)


def test_two_drafts_have_a_writer_each(blobs: Blobs) -> None:
    one, other = begun(blobs, ONE), begun(blobs, TWO, key=OTHER_KEY)
    finish(other, TWO)
    finish(one, ONE)


def test_closing_twice_is_closing_once(medium: Medium) -> None:
    draft = begun(medium.blobs, ONE)
    draft.close()
    second = medium.other_blobs().resume(KEY)
    draft.close()
    with pytest.raises(Busy):
        medium.blobs.resume(KEY)
    second.write([TWO])
    finish(second, TWO)


def test_of_many_writers_at_once_one_is_let_in(medium: Medium) -> None:
    begun(medium.blobs).close()
    barrier = threading.Barrier(8)
    opened: list[Draft] = []
    busy: list[Busy] = []

    def resume(blobs: Blobs) -> None:
        barrier.wait(10)
        try:
            opened.append(blobs.resume(KEY))
        except Busy as error:
            busy.append(error)

    threads = [threading.Thread(target=resume, args=[medium.other_blobs()]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(opened) == 1
    assert len(busy) == 7
    opened[0].close()


# Drafts: discarding


def test_there_is_nothing_to_resume_where_nothing_began(blobs: Blobs) -> None:
    with pytest.raises(Missing):
        blobs.resume(KEY)
    with pytest.raises(Missing):
        blobs.offset(KEY)


def test_a_discarded_draft_is_missing(medium: Medium) -> None:
    draft = begun(medium.blobs, ONE)
    draft.checkpoint()
    draft.close()
    medium.other_blobs().discard(KEY)
    for blobs in (medium.blobs, medium.other_blobs()):
        with pytest.raises(Missing):
            blobs.resume(KEY)
        with pytest.raises(Missing):
            blobs.offset(KEY)


def test_discarding_never_fails(blobs: Blobs) -> None:
    blobs.discard(KEY)
    begun(blobs).close()
    blobs.discard(KEY)
    blobs.discard(KEY)


@pytest.mark.parametrize("parts", [[], [b""], [ONE]])
def test_a_draft_that_is_discarded_while_it_is_written_is_missing_at_its_checkpoint(
    medium: Medium, parts: list[bytes]
) -> None:
    draft = begun(medium.blobs, *parts)
    medium.other_blobs().discard(KEY)
    with pytest.raises(Missing):
        draft.checkpoint()
    draft.close()
    with pytest.raises(Missing):
        medium.blobs.offset(KEY)


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("written", [b"", ONE])
def test_a_draft_that_is_discarded_while_it_is_written_is_missing_at_its_commit(
    medium: Medium,
    written: bytes,
    checkpointed: bool,  # noqa: FBT001
) -> None:
    draft = begun(medium.blobs, written)
    if checkpointed:
        draft.checkpoint()
    medium.other_blobs().discard(KEY)
    with pytest.raises(Missing):
        draft.commit(Digest.of(written))
    draft.close()
    with pytest.raises(Missing):
        medium.blobs.size(Digest.of(written))


def test_writing_to_a_discarded_draft_changes_nothing_that_is_there(medium: Medium) -> None:
    draft = begun(medium.blobs, ONE)
    medium.blobs.discard(KEY)
    second = begun(medium.blobs, TWO)  # the same key, begun again
    draft.write([ONE])
    draft.close()
    second.checkpoint()
    finish(second, TWO)


def test_a_writer_that_lost_its_draft_to_a_new_one_does_not_commit_that_one(medium: Medium) -> None:
    draft = begun(medium.blobs, ONE)
    medium.blobs.discard(KEY)
    second = begun(medium.blobs, TWO)
    with pytest.raises(Missing):
        draft.commit(Digest.of(ONE))
    draft.close()
    finish(second, TWO)
    with pytest.raises(Missing):
        medium.blobs.size(Digest.of(ONE))


def test_discarding_what_is_left_of_a_committed_draft_leaves_the_blob(medium: Medium) -> None:
    draft = begun(medium.blobs, ONE)
    digest = Digest.of(ONE)
    draft.commit(digest)
    medium.other_blobs().discard(KEY)
    draft.close()
    assert medium.blobs.read(digest, 10_000) == ONE


def test_closing_after_a_commit_leaves_the_blob_whole(medium: Medium) -> None:
    draft = begun(medium.blobs, ONE)
    draft.checkpoint()
    draft.write([TWO])
    draft.commit(Digest.of(ONE + TWO))
    draft.close()
    assert medium.blobs.read(Digest.of(ONE + TWO), 10_000) == ONE + TWO


# All of it, in any order


class Drafts(RuleBasedStateMachine):
    """One draft against a model: the bytes that are written, and those that count."""

    def __init__(self) -> None:
        super().__init__()
        self.directory: str | None = None
        self.exists = False
        self.open: Draft | None = None
        self.written = self.counted = b""
        self.visible: dict[Digest, bytes] = {}

    @initialize(on_disk=st.booleans())
    def prepare(self, on_disk: bool) -> None:  # noqa: FBT001
        if on_disk:
            self.directory = tempfile.mkdtemp(dir=IN_MEMORY)
            self.medium = filesystem(Path(self.directory))
        else:
            self.medium = memory()

    def teardown(self) -> None:
        if self.open is not None:
            self.open.close()
        if self.directory is not None:
            shutil.rmtree(self.directory)

    @precondition(lambda self: self.open is None)
    @rule(algorithm=st.sampled_from(["sha256", "sha512"]))
    def begin(self, algorithm: str) -> None:
        self.medium.blobs.discard(KEY)
        self.open = self.medium.blobs.begin(KEY, algorithm)
        self.exists, self.written, self.counted = True, b"", b""

    @rule()
    def resume(self) -> None:
        if self.exists and self.open is None:
            self.open = self.medium.other_blobs().resume(KEY)
            self.written = self.counted
            return
        with pytest.raises(Busy if self.exists else Missing):
            self.medium.other_blobs().resume(KEY)

    @precondition(lambda self: self.open is not None)
    @rule(parts=st.lists(st.binary(max_size=20), max_size=4))
    def write(self, parts: list[bytes]) -> None:
        assert self.open is not None
        self.open.write(parts)
        self.written += b"".join(parts)

    @precondition(lambda self: self.open is not None and self.exists)
    @rule()
    def checkpoint(self) -> None:
        assert self.open is not None
        self.open.checkpoint()
        self.counted = self.written

    @precondition(lambda self: self.open is not None)
    @rule(algorithm=st.sampled_from(["sha256", "sha512"]))
    def commit(self, algorithm: str) -> None:
        assert self.open is not None
        digest = Digest.of(self.written, algorithm)
        if not self.exists:
            with pytest.raises(Missing):
                self.open.commit(digest)
        else:
            assert self.open.commit(digest) == len(self.written)
            self.visible[digest] = self.written
            self.exists = False
        self.close()

    @precondition(lambda self: self.open is not None)
    @rule(algorithm=st.sampled_from(["sha256", "sha512"]))
    def commit_what_it_is_not(self, algorithm: str) -> None:
        assert self.open is not None
        with pytest.raises(DigestInvalid):
            self.open.commit(Digest.of(self.written + b"!", algorithm))

    @precondition(lambda self: self.open is not None)
    @rule()
    def close(self) -> None:
        assert self.open is not None
        self.open.close()
        self.open.close()
        self.open = None

    @rule()
    def discard(self) -> None:
        self.medium.other_blobs().discard(KEY)
        self.exists = False

    @invariant()
    def offsets_are_those_of_the_model(self) -> None:
        if not hasattr(self, "medium"):
            return
        if self.open is not None:
            assert self.open.offset == len(self.written)
        if self.exists:
            assert self.medium.other_blobs().offset(KEY) == len(self.counted)
        else:
            with pytest.raises(Missing):
                self.medium.blobs.offset(KEY)

    @invariant()
    def what_was_committed_is_whole(self) -> None:
        for digest, data in self.visible.items():
            assert self.medium.blobs.read(digest, 10_000) == data


Drafts.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestDraftsInAnyOrder = Drafts.TestCase


# What nobody goes on with


def written(medium: Medium) -> Blobs:
    draft = begun(medium.blobs, b"some bytes")
    draft.checkpoint()
    draft.close()
    return medium.blobs


def test_a_draft_takes_the_bytes_that_count_or_more(medium: Medium) -> None:
    blobs = written(medium)
    assert blobs.draft_size(KEY) == 10
    draft = blobs.resume(KEY)
    draft.write([b", and more"])
    assert medium.other_blobs().draft_size(KEY) in {10, 20}
    draft.checkpoint()
    draft.close()
    assert blobs.draft_size(KEY) == 20
    with pytest.raises(Missing):
        blobs.draft_size(OTHER_KEY)


def test_a_draft_that_is_older_than_the_cutoff_expires(medium: Medium) -> None:
    blobs = written(medium)
    assert blobs.expire(KEY, time.time() + 60, dry_run=True) == 10
    assert blobs.offset(KEY) == 10
    assert blobs.expire(KEY, time.time() + 60) == 10
    with pytest.raises(Missing):
        blobs.offset(KEY)
    assert blobs.expire(KEY, time.time() + 60) is None


def test_a_draft_that_was_written_after_the_cutoff_stays(medium: Medium) -> None:
    blobs = written(medium)
    assert blobs.expire(KEY, time.time() - 60) is None
    assert blobs.offset(KEY) == 10


def test_a_draft_that_somebody_has_open_stays_however_old_it_is(medium: Medium) -> None:
    blobs = written(medium)
    draft = medium.other_blobs().resume(KEY)
    assert blobs.expire(KEY, time.time() + 60) is None
    draft.write([b", and more"])
    draft.checkpoint()
    draft.close()
    assert blobs.offset(KEY) == 20
