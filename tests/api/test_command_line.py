"""`registry`: what scripts and people see. Mistakes are one line that names the key, exit status 2, no traceback."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from serving import Server, free_port

from registry import __version__


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, which must come in time; the file of an image on this machine stays outside."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    return subprocess.run(
        [sys.executable, "-m", "registry", *arguments],
        env=inherited | {"REGISTRY_CONFIGURATION_PATH": "", "COLUMNS": "200"} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def fails(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit status 2, nothing on the standard output, and a last line with all of the words."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("registry: "), ended.stderr
    for word in words:
        assert word in last, ended.stderr


@pytest.fixture
def written(tmp_path):
    """Writes a configuration file."""

    def write(text: str) -> str:
        path = tmp_path / "config.yml"
        path.write_text(text)
        return str(path)

    return write


# Looking


def test_version_is_one_line():
    """Scripts of registry:2 run `registry --version`."""
    for option in "--version", "-v":
        ended = run(option)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout == f"registry (swarm-registry) {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_names_the_commands_and_comes_where_none_is_given(arguments):
    ended = run(*arguments)
    assert ended.returncode == (0 if arguments else 2)
    for word in "serve", "config", "--version":
        assert word in ended.stdout + ended.stderr


@pytest.mark.parametrize("command", [["serve"], ["config", "check"]])
def test_each_command_has_its_help(command):
    ended = run(*command, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert " ".join(command) in ended.stdout


@pytest.mark.parametrize("arguments", [["sever"], ["serve", "--fast"]])
def test_a_mistyped_command_is_exit_status_2(arguments):
    ended = run(*arguments)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr


# config check


def test_config_check_prints_the_settings_in_effect_as_yaml_that_can_be_used(written):
    ended = run("config", "check", REGISTRY_HTTP_ADDR="127.0.0.1:7777", REGISTRY_HTTP_SECRET="not for the log")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "not for the log" not in ended.stdout
    settings = yaml.safe_load(ended.stdout)
    assert settings["http"]["addr"] == "127.0.0.1:7777"
    assert run("config", "check", written(ended.stdout)).returncode == 0


def test_config_check_says_where_the_settings_come_from_and_what_has_no_effect(written):
    path = written("version: 0.1\nredis: {addr: 'localhost:6379'}\n")
    ended = run("config", "check", path)
    assert ended.returncode == 0
    assert path in ended.stdout.splitlines()[0]
    assert ended.stderr.startswith("note: ")
    assert "redis" in ended.stderr


def test_config_check_in_json_is_for_scripts(written):
    path = written("version: 0.1\nhttp: {addr: ':7777'}\n")
    ended = run("config", "check", "--json", path)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = json.loads(ended.stdout)
    assert (found["valid"], found["source"], found["notices"]) == (True, path, [])
    assert found["settings"]["http"]["addr"] == ":7777"


WRONG = "version: 0.1\nhttp: {adr: ':5000', draintimeout: soon}\n"


def test_config_check_of_a_mistake_names_every_key_and_is_exit_status_2(written):
    ended = run("config", "check", written(WRONG))
    fails(ended)
    assert [line.split(":")[1].strip() for line in ended.stderr.splitlines()] == ["http.draintimeout", "http.adr"]


def test_config_check_of_a_mistake_in_json_lists_every_line_and_is_exit_status_2(written):
    ended = run("config", "check", "--json", written(WRONG))
    assert ended.returncode == 2
    assert ended.stderr == ""
    found = json.loads(ended.stdout)
    assert found["valid"] is False
    assert len(found["errors"]) == 2
    assert any("did you mean http.addr?" in line for line in found["errors"])


def test_config_check_of_a_file_that_is_not_there_is_exit_status_2(tmp_path):
    fails(run("config", "check", str(tmp_path / "none.yml")), "none.yml", "No such file")


# serve


def test_serve_with_a_mistake_in_the_file_does_not_start(written):
    fails(run("serve", written("version: 0.1\nhttp: {adr: ':5000'}\n")), "http.adr", "did you mean http.addr?")


def test_serve_with_a_mistake_in_a_variable_names_the_variable():
    fails(run("serve", REGISTRY_HTTP_ADDR="5000"), "http.addr", "REGISTRY_HTTP_ADDR", "127.0.0.1:5000")


def test_serve_refuses_to_leave_out_the_protection_that_is_asked_for(written):
    fails(run("serve", written("version: 0.1\nauth: {token: {realm: x}}\nlog: {level: info}\n")), "auth.token")


def test_serve_on_a_port_in_use_says_so(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        root = str(tmp_path / "data")
        ended = run("serve", REGISTRY_HTTP_ADDR=address, REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=root)
    fails(ended, "http.addr", address, "Address already in use")


def test_serve_on_an_address_of_another_machine_says_so(tmp_path):
    root = str(tmp_path / "data")
    ended = run("serve", REGISTRY_HTTP_ADDR="192.0.2.1:5000", REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=root)
    fails(ended, "http.addr", "192.0.2.1:5000", "Cannot assign requested address")


def test_serve_on_a_unix_socket_where_a_file_is_says_so(tmp_path):
    """And leaves the file as it is."""
    file = tmp_path / "file"
    file.write_text("precious")
    root = str(tmp_path / "data")
    ended = run(
        "serve", REGISTRY_HTTP_NET="unix", REGISTRY_HTTP_ADDR=str(file), REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=root
    )
    fails(ended, "http.addr", str(file))
    assert file.read_text() == "precious"


@pytest.mark.parametrize("below", ["", "/below"])
def test_serve_with_a_file_for_a_root_says_so(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("precious")
    ended = run("serve", REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=f"{file}{below}")
    fails(ended, "storage.filesystem.rootdirectory", str(file))
    assert file.read_text() == "precious"


def test_serve_with_a_root_that_cannot_be_written_says_so(tmp_path):
    root = tmp_path / "data"
    if os.geteuid():
        root.mkdir(mode=0o500)
    else:
        root = Path("/proc/self/data")  # where not even root can make a directory
    fails(
        run("serve", REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=str(root)), "storage.filesystem.rootdirectory", str(root)
    )


@pytest.mark.parametrize("given", [{"certificate": "none.pem", "key": "none.key"}, {"certificate": "none.pem"}])
def test_serve_with_a_certificate_that_is_not_there_says_so(tmp_path, given):
    variables = {f"REGISTRY_HTTP_TLS_{name.upper()}": str(tmp_path / file) for name, file in given.items()}
    root = str(tmp_path / "data")
    ended = run("serve", **variables, REGISTRY_HTTP_ADDR="127.0.0.1:0", REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=root)
    fails(ended, "http.tls")


def test_serve_says_what_it_serves_and_from_where(serve):
    server = serve()
    assert f"serving {server.url}/v2/, storage in {server.root}" in server.log()
    assert server.stop() == 0
    assert "stopped" in server.log().splitlines()[-1]


def test_serve_takes_the_file_that_it_is_given(tmp_path):
    """As the image's entry point calls it: `registry serve /etc/docker/registry/config.yml`."""
    port = free_port()
    path = tmp_path / "config.yml"
    path.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{tmp_path / 'data'}'}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', headers: {{X-From-File: [yes]}}}}\n"
    )

    class FromFile(Server):
        def command(self) -> list[str]:
            return [sys.executable, "-m", "registry", "serve", str(path)]

        def variables(self) -> dict[str, str]:
            return {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}

    with FromFile(tmp_path / "data", port=port) as server:
        assert f"configuration: {path}" in server.log()
