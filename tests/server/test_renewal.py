"""A certificate that changes on disk while it is served: what is taken, what is kept out, and what the log says."""

import asyncio
import logging
import os
import shutil
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from https import Pair, pair, put
from serving import let_others_in, wait_until

from registry.server import Renewal, Tls, UnusableTls

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    directory = tmp_path_factory.mktemp("certificates")
    return pair(directory, "old", days=30), pair(directory, "new", days=90)


@pytest.fixture
def live(tmp_path, pairs) -> Pair:
    """The files that are served, the old pair at first."""
    place = Pair(tmp_path / "registry.crt", tmp_path / "registry.key")
    pairs[0].put(place)
    return place


class Connection:
    """Both ends of a connection to what a renewal serves, in memory.

    Args:
        renewal: the server's.
        own: the client's certificate, if it has one.
        session: to resume.

    Raises:
        ssl.SSLError: they did not shake hands.
    """

    def __init__(self, renewal: Renewal, own: Pair | None = None, session: ssl.SSLSession | None = None) -> None:
        context = CONTEXTS.setdefault(own, client_context(own))
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = renewal.context.wrap_bio(to_server, to_client, server_side=True)
        self.client = context.wrap_bio(to_client, to_server, session=session)
        waiting = [self.client, self.server]
        while waiting:
            for side in list(waiting):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                waiting.remove(side)

    def carries(self, word: bytes) -> bool:
        self.client.write(word)
        return self.server.read(100) == word

    def shows(self, wanted: Pair) -> bool:
        shown = ssl.DER_cert_to_PEM_cert(self.client.getpeercert(binary_form=True))
        return shown.split() == wanted.certificate.read_text().split()


CONTEXTS: dict[Pair | None, ssl.SSLContext] = {}
"""Of clients; a session is resumed by the context that it began in."""


def client_context(own: Pair | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the handshake is over only once both have agreed
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def gets_in(renewal: Renewal, own: Pair, session: ssl.SSLSession | None = None) -> bool:
    try:
        return Connection(renewal, own, session).carries(b"in")
    except ssl.SSLError:
        return False


def renewal_of(live: Pair, **more) -> Renewal:
    return Renewal(Tls(live.certificate, live.key, **more))


def look(renewal: Renewal) -> None:
    asyncio.run(renewal.look())


def test_new_connections_have_the_new_certificate_and_running_ones_go_on(live, pairs):
    renewal = renewal_of(live)
    running = Connection(renewal)
    assert running.shows(pairs[0])
    pairs[1].put(live)
    look(renewal)
    assert Connection(renewal).shows(pairs[1])
    assert running.carries(b"still here")


@pytest.mark.parametrize("first", ["certificate", "key"])
def test_a_pair_that_does_not_fit_is_kept_out_until_it_does_and_told_once(live, pairs, first, caplog):
    """Whatever writes them writes one after the other."""
    second = "key" if first == "certificate" else "certificate"

    renewal = renewal_of(live)
    with caplog.at_level(logging.INFO, "registry.server"):
        put(getattr(pairs[1], first), getattr(live, first))
        for _ in range(3):
            look(renewal)
        assert Connection(renewal).shows(pairs[0])
        put(getattr(pairs[1], second), getattr(live, second))
        look(renewal)
        assert Connection(renewal).shows(pairs[1])
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2, told
    assert "the key is not the certificate's" in told[0]
    assert "was read again" in told[1]


@pytest.mark.parametrize("what", ["gone", "no PEM", "empty"])
def test_files_that_cannot_be_used_leave_what_was_before(live, pairs, what, caplog):
    renewal = renewal_of(live)
    with caplog.at_level(logging.INFO, "registry.server"):
        live.certificate.unlink()
        if what != "gone":
            live.certificate.write_text("" if what == "empty" else "no PEM")
        look(renewal)
        look(renewal)
        assert Connection(renewal).shows(pairs[0])
        assert len(caplog.records) == 1
        pairs[0].put(live)  # mended by hand
        look(renewal)
    assert str(live.certificate) in caplog.records[0].getMessage()
    assert "was read again" in caplog.records[1].getMessage()


def test_what_has_not_changed_is_not_read(live, caplog):
    renewal = renewal_of(live)
    before = renewal.context.newest
    with caplog.at_level(logging.INFO, "registry.server"):
        look(renewal)
    assert renewal.context.newest is before
    assert caplog.records == []


def test_a_symbolic_link_that_leads_elsewhere_is_a_change(tmp_path, pairs):
    """certbot's `live/` is links into `archive/`; a volume of Kubernetes is one link that is replaced."""
    for number, one in enumerate(pairs):
        (tmp_path / str(number)).mkdir()
        one.put(Pair(tmp_path / str(number) / "crt", tmp_path / str(number) / "key"))
    (tmp_path / "live").symlink_to("0")
    renewal = renewal_of(Pair(tmp_path / "live" / "crt", tmp_path / "live" / "key"))
    (tmp_path / "next").symlink_to("1")
    (tmp_path / "next").rename(tmp_path / "live")
    look(renewal)
    assert Connection(renewal).shows(pairs[1])


def test_another_authority_for_clients_counts_for_new_connections(live, pairs, tmp_path):
    authorities = tmp_path / "clients.pem"
    put(pairs[0].certificate, authorities)
    renewal = renewal_of(live, client_authorities=[authorities])
    assert [gets_in(renewal, one) for one in pairs] == [True, False]
    put(pairs[1].certificate, authorities)
    look(renewal)
    assert [gets_in(renewal, one) for one in pairs] == [False, True]


def test_a_session_from_before_is_no_way_in_once_its_authority_is_gone(live, pairs, tmp_path):
    """A client that resumes one is not asked for a certificate again."""
    authorities = tmp_path / "clients.pem"
    put(pairs[0].certificate, authorities)
    renewal = renewal_of(live, client_authorities=[authorities])
    session = Connection(renewal, pairs[0]).client.session
    assert Connection(renewal, pairs[0], session).client.session_reused
    put(pairs[1].certificate, authorities)
    look(renewal)
    assert not gets_in(renewal, pairs[0], session)


def test_files_are_looked_at_again_and_again(live, pairs):
    async def scenario():
        renewal = Renewal(Tls(live.certificate, live.key), every=0.02)
        watching = asyncio.create_task(renewal.watch())
        try:
            for one in (pairs[1], pairs[0]):
                one.put(live)
                await asyncio.to_thread(wait_until, lambda one=one: Connection(renewal).shows(one), 10, "it is taken")
        finally:
            watching.cancel()

    asyncio.run(scenario())


def test_the_log_says_daily_that_the_end_is_near_and_that_it_has_come(live, caplog):
    """`live` expires in 30 days."""
    day = timedelta(days=1)
    begin = datetime.now(UTC)
    clock = [begin]

    async def said(days: float) -> int:
        clock[0] = begin + days * day
        caplog.clear()
        for _ in range(3):
            watching = asyncio.create_task(renewal.watch())
            await asyncio.sleep(0.01)
            watching.cancel()
        return len(caplog.records)

    renewal = Renewal(Tls(live.certificate, live.key), now=lambda: clock[0])

    async def scenario():
        assert [await said(days) for days in (0, 15, 15.9)] == [0, 0, 0]
        assert await said(16.1) == 1
        assert "expires in 13 days" in caplog.records[0].getMessage()
        assert [await said(days) for days in (17, 17.2, 18)] == [0, 1, 0]
        assert await said(31) == 1
        assert (caplog.records[0].levelname, "has expired" in caplog.records[0].getMessage()) == ("ERROR", True)

    asyncio.run(scenario())


def test_a_new_certificate_has_an_end_of_its_own(live, pairs):
    renewal = renewal_of(live)
    old = renewal.expires
    pairs[1].put(live)
    look(renewal)
    assert renewal.expires - old >= timedelta(days=59)


WITHOUT_ROOT = """
import asyncio, logging, os, sys
from pathlib import Path
from registry.server import Renewal, Tls
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
renewal = Renewal(Tls(Path(sys.argv[1]), Path(sys.argv[2])))
os.setuid(65534)
renewal.settle()
for _ in range(3):
    asyncio.run(renewal.look())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads what others may not")
def test_what_root_alone_could_read_is_told_and_then_left_in_peace(live, tmp_path):
    """Root is given up after the start; the log must not complain of the files every few seconds."""
    let_others_in(tmp_path)
    live.key.chmod(0o600)
    command = [sys.executable, "-c", WITHOUT_ROOT, str(live.certificate), str(live.key)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    told = f"{live.key} was read as root, and cannot be read again: restart the registry when it changes\n"
    assert (ended.stdout, ended.stderr) == (told, "")


@pytest.mark.parametrize("wrong", ["another key", "gone"])
def test_files_that_do_not_fit_at_the_start_are_an_error(live, pairs, wrong):
    if wrong == "gone":
        live.key.unlink()
    else:
        put(pairs[1].key, live.key)
    with pytest.raises(UnusableTls, match=str(live.key)):
        renewal_of(live)
