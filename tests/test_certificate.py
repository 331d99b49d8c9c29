"""`registry certificate`: what it makes is what openssl and clients take, and nothing is overwritten unasked."""

import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from https import Https, Pair, openssl

from registry.commands import selfsigned

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def run(directory: Path, *arguments: object, code: int = 0) -> str:
    """Run it in a directory; what it printed, of either kind."""
    ended = subprocess.run(
        [sys.executable, "-m", "registry", "certificate", *map(str, arguments)],
        cwd=directory,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert (ended.stdout == "") == bool(code)
    return ended.stdout + ended.stderr


@needs_openssl
def test_openssl_takes_it_for_each_name_and_address_and_for_no_other(tmp_path):
    run(tmp_path, "Registry.example.com", "*.apps.example.com", "10.0.0.5", "[fd00::5]", "node_1")
    verify = ("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "registry.crt")
    for flag, names in {
        "-verify_hostname": ["registry.example.com", "a.apps.example.com", "node_1"],
        "-verify_ip": ["10.0.0.5", "fd00::5"],
    }.items():
        for name in names:
            assert openssl(tmp_path, *verify, flag, name, "registry.crt") == "registry.crt: OK\n", name
    with pytest.raises(AssertionError, match="hostname mismatch"):
        openssl(tmp_path, *verify, "-verify_hostname", "other.example.com", "registry.crt")
    with pytest.raises(AssertionError, match="purpose"):
        openssl(tmp_path, "verify", "-purpose", "sslclient", "-CAfile", "registry.crt", "registry.crt")
    shown = openssl(tmp_path, "x509", "-in", "registry.crt", "-noout", "-text")
    assert "NIST CURVE: P-256" in shown
    assert "CA:FALSE" in shown  # whoever steals the key cannot sign for other hosts


def test_python_with_its_strictest_flags_takes_it(tmp_path):
    """As `ssl.create_default_context` has them from 3.13 on."""
    run(tmp_path, "127.0.0.1")
    place = Pair(tmp_path / "registry.crt", tmp_path / "registry.key")
    with Https(tmp_path / "data", environment=place.settings) as server:
        context = ssl.create_default_context(cafile=place.certificate)
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        with httpx.Client(verify=context, trust_env=False) as http:
            assert http.get(f"{server.url}/v2/").status_code == 200


def test_it_is_valid_from_a_day_ago_for_as_long_as_is_asked(tmp_path):
    for days, flags in (730, ()), (30, ("--days", 30)), (824, ("--days", 824)):
        made = json.loads(run(tmp_path, "a", "--json", "--force", *flags))
        begins, expires = (datetime.fromisoformat(made[key]) for key in ("begins", "expires"))
        assert timedelta(days=1) <= datetime.now(UTC) - begins < timedelta(days=1, minutes=5)
        assert expires - begins == timedelta(days=days + 1) <= timedelta(days=825)
    assert "824" in run(tmp_path, "b", "--days", 825, "--force", code=2)


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
def test_the_key_is_for_its_owner_alone_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        run(tmp_path, "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "registry.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "registry.crt").stat().st_mode) == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["registry.crt", "registry.key"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_made_by_root_in_a_container_they_belong_to_whoever_mounted_the_directory(tmp_path):
    os.chown(tmp_path, 1234, 4321)
    run(tmp_path, "a")
    for path in tmp_path.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


@pytest.mark.parametrize("there", ["registry.crt", "registry.key"])
def test_a_file_that_is_there_is_kept_unless_told_otherwise(tmp_path, there):
    (tmp_path / there).write_text("mine")
    told = run(tmp_path, "a", code=1)
    assert re.fullmatch(rf"registry: {there} is there already; to replace it: --force\n", told)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"
    run(tmp_path, "a", "--force")
    assert (tmp_path / there).read_text().startswith("-----BEGIN")


def test_files_may_be_named_one_by_one(tmp_path):
    (tmp_path / "tls").mkdir()
    made = json.loads(run(tmp_path, "a", "--out", "tls", "--key", "own.pem", "--json"))
    assert (made["certificate"], made["key"]) == ("tls/registry.crt", "own.pem")
    assert (tmp_path / "own.pem").read_text().startswith("-----BEGIN PRIVATE KEY")
    assert "the same file" in run(tmp_path, "a", "--certificate", "x", "--key", "./x", code=2)


def test_where_one_file_cannot_be_written_the_old_pair_stays(tmp_path):
    run(tmp_path, "a")
    before = (tmp_path / "registry.key").read_bytes()
    told = run(tmp_path, "a", "--certificate", "missing/registry.crt", "--force", code=2)
    assert told == "registry: cannot write missing/registry.crt: No such file or directory\n"
    assert (tmp_path / "registry.key").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["registry.crt", "registry.key"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("registry.example.com:5000", "without its port"),
        ("https://registry.example.com", "expected a name such as"),
        ("10.0.0.256", "expected a name such as"),
        ("a..b", "expected a name such as"),
        ("-a", "expected a name such as"),
        ("a*b.example.com", "expected a name such as"),
        ("", "expected a name such as"),
        ("a b", "expected a name such as"),
        ("a\n", "expected a name such as"),
        ("contraseña.es", "xn--"),
        (f"{'a' * 64}.example.com", "expected a name such as"),
        (".".join(["a" * 60] * 5), "expected a name such as"),
    ],
)
def test_what_is_no_name_is_refused(name, told):
    with pytest.raises(ValueError, match=told):
        selfsigned.make([name], datetime.now(UTC), timedelta(days=1))


def test_a_mistake_is_one_line_and_makes_no_file(tmp_path):
    assert len(run(tmp_path, "good", "registry:5000", code=2).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_that_dns_has_is_taken():
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert selfsigned.make([name, name], datetime.now(UTC), timedelta(days=1)).names == (name,)


def test_what_to_do_next_is_said_so_that_it_can_be_copied(tmp_path):
    told = run(tmp_path, "registry.example.com", "fd00::5", "*.example.com", "--port", 5443, "--out", tmp_path)
    directory = "/etc/docker/certs.d/registry.example.com:5443"
    assert f"  mkdir -p {directory} && cp {tmp_path}/registry.crt {directory}/ca.crt\n" in told
    assert "/etc/docker/certs.d/[fd00::5]:5443/ca.crt" in told
    assert "certs.d/*" not in told
    assert f"  docker secret create registry.crt {tmp_path}/registry.crt\n" in told
    assert f"  docker secret create registry.key {tmp_path}/registry.key\n" in told
    assert f"  REGISTRY_HTTP_TLS_KEY={tmp_path}/registry.key\n" in told
    on_443 = run(tmp_path, "registry.example.com", "--port", 443, "--force")
    assert "/etc/docker/certs.d/registry.example.com/ca.crt" in on_443
