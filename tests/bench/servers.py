"""The registries that are compared: each a process on an empty directory of its own, or one that runs already."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from processes import cpu_seconds, die_with
from transfer import Target, trusting

START_SECONDS = 60.0

USER = ("bench", "bench")
# bcrypt with cost 5, what `htpasswd -B` makes unless told otherwise
_HTPASSWD = "bench:$2y$05$swarmregistrybenchmar.9OVzJEPmBc0BH2L.eFosHWS2bCsTVUm\n"

_CONFIGURATION = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: '{root}'}}, delete: {{enabled: true}}}}
http:
  addr: 127.0.0.1:{port}
  secret: the-same-after-each-start
{more}"""


_OPENSSL = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
    "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
)


class Refused(Exception):
    """The server does not serve such a configuration."""


@dataclass(frozen=True)
class Setting:
    """What a row asks of a server beyond the default."""

    tls: tuple[Path, Path] | None = None
    htpasswd: bool = False

    @property
    def is_plain(self) -> bool:
        return not self.tls and not self.htpasswd


@dataclass(frozen=True)
class Contender:
    """One that takes part. `command` has {port}, {root} and perhaps {config}; without one, `url` is where it runs."""

    name: str
    command: str = ""
    url: str = ""
    is_ours: bool = False

    @property
    def version(self) -> str:
        """What the program says of itself, if it does so when asked as our own and registry:2 are."""
        if not self.command:
            return "already running"
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            asked = subprocess.run(
                [shlex.split(self.command)[0], "--version"], capture_output=True, text=True, timeout=20, check=False
            )
            if not asked.returncode and (said := re.search(r"\d+(?:\.\d+)+\S*", asked.stdout)):
                return said[0]
        return "version unknown"


def contender(text: str) -> Contender:
    """Read `NAME=URL` or `NAME=COMMAND`."""
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise ValueError(f"{text!r}: expected NAME=URL or NAME=COMMAND with {{port}} and {{root}}")
    if value.startswith(("http://", "https://")):
        return Contender(name, url=value)
    if "{config}" not in value and not ("{port}" in value and "{root}" in value):
        raise ValueError(f"{text!r}: the command needs {{port}} and {{root}}, or {{config}}")
    return Contender(name, command=value)


def debian() -> Contender | None:
    """registry:2 as Debian packages it, where it is installed."""
    found = shutil.which("docker-registry", path=os.pathsep.join(["/usr/bin", "/usr/sbin", os.environ.get("PATH", "")]))
    return Contender("docker-registry", command=f"{shlex.quote(found)} serve {{config}}") if found else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A contender at work. `root` is its data; its log and configuration lie beside it, in `beside`."""

    contender: Contender
    root: Path
    beside: Path
    setting: Setting = field(default_factory=Setting)
    core: int | None = None
    """The only core it may run on."""
    start_seconds: float = 0.0
    start_cpu: float = 0.0
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self.contender.url:
            if not self.setting.is_plain:
                raise Refused("runs already, as it is")
            return self
        if not self.setting.is_plain and not (self.contender.is_ours or "{config}" in self.contender.command):
            raise Refused("its command has no {config}")
        self._port = free_port()
        self.root.mkdir(parents=True, exist_ok=True)
        self.beside.mkdir(parents=True, exist_ok=True)
        command, environment = self._command(), self._environment()
        try:
            self._start(command, environment)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def target(self) -> Target:
        if self.contender.url:
            parts = urlsplit(self.contender.url)
            tls = parts.scheme == "https"
            return Target(parts.hostname or "127.0.0.1", parts.port or (443 if tls else 80), tls=tls)
        user = USER if self.setting.htpasswd else None
        return Target("127.0.0.1", self._port, tls=bool(self.setting.tls), user=user, pid=self.pid)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def last_words(self) -> str:
        """The last line of its log that is one, short."""
        with contextlib.suppress(OSError):
            lines = (self.beside / "log").read_text(errors="replace").splitlines()
            if spoken := [line.strip() for line in lines if line.strip()]:
                return spoken[-1][-200:]
        return "no word in its log"

    def kill(self) -> None:
        """End the process and what it started; nothing in its directory is needed after that."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _start(self, command: list[str], environment: dict[str, str]) -> None:
        parent, cores = os.getpid(), os.sched_getaffinity(0)
        if self.core is not None:
            os.sched_setaffinity(0, {self.core})  # inherited
        began = time.perf_counter()
        try:
            with (self.beside / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                    preexec_fn=lambda: die_with(parent),  # noqa: PLW1509 - this process has no threads
                )
        finally:
            os.sched_setaffinity(0, cores)
        while not self._is_ready():
            if self.has_ended:
                raise Refused(f"ended at once: {self.last_words()}")
            if time.perf_counter() - began > START_SECONDS:
                raise TimeoutError(f"no answer to GET /v2/ in {START_SECONDS:g} s")
            time.sleep(0.001)
        self.start_seconds = time.perf_counter() - began
        self.start_cpu = cpu_seconds(self._process.pid)

    def _is_ready(self) -> bool:
        """200, or 401 where access needs a password. The quickest way to ask: this is in the start-up time."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=5) as plain:
            connection = trusting().wrap_socket(plain) if self.setting.tls else plain
            with contextlib.closing(connection):
                connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                return connection.recv(64)[9:12] in {b"200", b"401"}
        return False

    def _command(self) -> list[str]:
        config = self.beside / "config.yml"
        config.write_text(_CONFIGURATION.format(root=self.root, port=self._port, more=self._more()))
        places = {"port": str(self._port), "root": str(self.root), "config": str(config)}
        return [_fill(word, places) for word in shlex.split(self.contender.command)]

    def _more(self) -> str:
        lines = ""
        if self.setting.tls:
            certificate, key = self.setting.tls
            lines += f"  tls: {{certificate: '{certificate}', key: '{key}'}}\n"
        if self.setting.htpasswd:
            passwords = self.beside / "htpasswd"
            passwords.write_text(_HTPASSWD)
            lines += f"auth: {{htpasswd: {{realm: bench, path: '{passwords}'}}}}\n"
        return lines

    def _environment(self) -> dict[str, str]:
        """Ours is told by variables, as in a stack; nobody hears what the caller has set for another registry."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
        if not self.contender.is_ours:
            return inherited
        ours = {
            "REGISTRY_CONFIGURATION_PATH": "",
            "REGISTRY_HTTP_ADDR": f"127.0.0.1:{self._port}",
            "REGISTRY_LOG_LEVEL": "error",
            "REGISTRY_LOG_ACCESSLOG_DISABLED": "true",
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(self.root),
        }
        if self.setting.tls:
            certificate, key = self.setting.tls
            ours |= {"REGISTRY_HTTP_TLS_CERTIFICATE": str(certificate), "REGISTRY_HTTP_TLS_KEY": str(key)}
        if self.setting.htpasswd:
            ours |= {
                "REGISTRY_AUTH": "htpasswd",
                "REGISTRY_AUTH_HTPASSWD_REALM": "bench",
                "REGISTRY_AUTH_HTPASSWD_PATH": str(self.beside / "htpasswd"),
            }
        return inherited | ours


def _fill(word: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        word = word.replace("{" + name + "}", value)
    return word


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, by the openssl command: ECDSA, as certificate authorities make now."""
    pem, key = directory / "server.pem", directory / "server.key"
    subprocess.run(
        [*_OPENSSL.split(), "-out", str(pem), "-keyout", str(key)],
        check=True,
        capture_output=True,
    )
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pem, key)
    return pem, key
