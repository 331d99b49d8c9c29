"""Behind proxies: who counts as the client, and whose word counts."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Scope

from registry.api.forwarded import Forwarded, _address
from registry.config.settings import Http

TRUSTED = Http.model_validate({"trustedproxies": ["10.0.0.0/8", "fd00::/8"]}).trustedproxies


def seen(client: str, *headers: tuple[str, str]) -> Scope:
    """What the app gets."""
    found: list[Scope] = []

    async def app(scope, receive, send):
        found.append(scope)

    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    waiting = Forwarded(app, TRUSTED)({"type": "http", "client": (client, 1), "headers": encoded}, None, None)
    with pytest.raises(StopIteration):
        waiting.send(None)
    return found[0]


@pytest.mark.parametrize(
    ("client", "forwarded", "counted"),
    [
        ("10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("10.0.0.1", "203.0.113.9, 192.0.2.7", "192.0.2.7"),
        ("10.0.0.1", "203.0.113.9, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("::ffff:10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("fd00::1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "192.0.2.7:4711", "192.0.2.7"),
        ("10.0.0.1", "192.0.2.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("192.0.2.1", "198.51.100.4", "192.0.2.1"),
        ("nobody", "198.51.100.4", "nobody"),
    ],
)
def test_the_last_address_that_is_no_proxy_of_ours_is_the_client(client, forwarded, counted):
    assert seen(client, ("x-forwarded-for", forwarded))["client"] == (counted, 1)


def test_what_strangers_say_of_proxies_is_not_heard():
    words = [(f"x-forwarded-{word}", "evil.example") for word in ("host", "proto", "for")]
    assert seen("192.0.2.1", ("host", "registry"), *words, ("forwarded", "x"))["headers"] == [(b"host", b"registry")]
    assert len(seen("10.0.0.1", ("host", "registry"), *words)["headers"]) == 4


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_whatever_a_proxy_writes_is_an_address_or_not(text):
    address = _address(text)
    assert address is None or _address(address) == address
    seen("10.0.0.1", ("x-forwarded-for", text))


def test_locations_and_the_log_follow_a_trusted_proxy_alone(serve):
    words = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "hub.example"}
    for trusted, begins in (("127.0.0.0/8", "https://hub.example/"), ("10.0.0.0/8", "http://127.0.0.1:")):
        server = serve(REGISTRY_HTTP_TRUSTEDPROXIES=trusted, REGISTRY_HTTP_RELATIVEURLS="false")
        answer = httpx.post(server.url + "/v2/some/name/blobs/uploads/", headers=words)
        assert answer.headers["Location"].startswith(begins)
        (line,) = [line for line in server.log().splitlines() if "POST" in line][-1:]
        assert ("192.0.2.7" in line) is (trusted == "127.0.0.0/8")
        server.stop()
