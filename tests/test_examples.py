"""The stacks and scripts that administrators copy, and the guide that names them, hold together."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from registry import config

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs/examples"
STACKS = [ROOT / "stack.yml", *sorted(EXAMPLES.rglob("stack*.yml"))]
FILES = sorted({*STACKS, *EXAMPLES.rglob("*.yml")})
OF_THE_REGISTRY = [path for path in FILES if path.parent.name != "helloworld"]
GUIDES = {"en": ROOT / "docs/swarm.md", "es": ROOT / "docs/es/swarm.md"}
GIVEN = {"REGISTRY_NODE": "server02"}

VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")
DURATION = re.compile(r"(\d+(h|m|s|ms|us))+")
SIZE = re.compile(r"\d+[bkmgBKMG]?")


class Missing(Exception):
    pass


def substitute(text, variables):
    """What docker does with `${NAME:-default}` and `${NAME:?message}`."""

    def value(match):
        name, operator, rest = match.groups()
        if variables.get(name):
            return variables[name]
        if operator == ":?":
            raise Missing(rest)
        return rest or ""

    return VARIABLE.sub(value, text)


def load(path, variables=GIVEN):
    """The file as docker sees it: comments do not ask for variables, and values are put in last."""
    return _each(yaml.safe_load(path.read_text()), variables)


def _each(value, variables):
    if isinstance(value, dict):
        return {key: _each(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_each(inner, variables) for inner in value]
    return substitute(value, variables) if isinstance(value, str) else value


def named(path):
    return str(path.relative_to(ROOT))


def stack_config(path, **variables):
    """`docker stack config`, which checks a file by docker's own schema; None where the client does not have it."""
    docker = shutil.which("docker")
    if docker is None:
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")} | variables
    command = [docker, "stack", "config", "--compose-file", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode and re.search(r"unknown (command|flag|shorthand)|requires? (?:at|exactly)|Usage:", done.stderr):
        return None
    return done


@pytest.mark.parametrize("path", FILES, ids=named)
def test_values_have_the_shape_that_docker_takes(path):
    loaded = load(path)
    assert loaded["services"]
    for service in loaded["services"].values():
        assert re.fullmatch(r"[\w.:/-]+", service["image"])
        assert service["ports"]
        for port in service["ports"]:
            if isinstance(port, dict):
                assert isinstance(port["target"], int)
                assert isinstance(port["published"], int)
                assert (port["protocol"], port["mode"]) in {("tcp", "ingress"), ("tcp", "host")}
            else:
                assert re.fullmatch(r"(\d+\.\d+\.\d+\.\d+:)?\d+:\d+", port)
        assert all(isinstance(value, str) for value in service.get("environment", {}).values())
        check = service.get("healthcheck", {})
        spans = [check.get(key, "1s") for key in ("interval", "timeout", "start_period")]
        assert all(DURATION.fullmatch(span) for span in [*spans, service.get("stop_grace_period", "1s")])
        for options in service.get("logging", {}).get("options", {}).values():
            assert isinstance(options, str)
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in loaded["volumes"]
        for secret in service.get("secrets", []):
            assert secret["source"] in loaded["secrets"]
        for limits in service.get("deploy", {}).get("resources", {}).values():
            assert SIZE.fullmatch(limits["memory"])


@pytest.mark.parametrize("path", STACKS, ids=named)
def test_stacks_are_files_that_docker_stack_accepts(path):
    done = stack_config(path, **GIVEN)
    if done is None:
        pytest.skip("no docker client with `docker stack config` here")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [path for path in STACKS if path in OF_THE_REGISTRY], ids=named)
def test_without_a_node_the_message_says_what_to_set(path):
    message = "set REGISTRY_NODE to the host name of the node that keeps the images"
    with pytest.raises(Missing, match=message):
        load(path, {})
    done = stack_config(path)
    if done is not None:
        assert done.returncode != 0
        assert message in done.stderr


@pytest.mark.parametrize("path", OF_THE_REGISTRY, ids=named)
def test_every_variable_of_the_registry_is_a_setting(path):
    """Those that are commented out, too: one takes away the sign, and it works."""
    text = path.read_text()
    (service,) = load(path)["services"].values()
    commented = dict(re.findall(r"^\s*# +(REGISTRY_[A-Z0-9_]+): (\S+)$", text, re.MULTILINE))
    environment = {**commented, **service["environment"]}
    assert environment
    assert all(name.startswith("REGISTRY_") for name in environment)
    loaded = config.load(None, environment)
    assert loaded.notices == ()


@pytest.mark.parametrize("path", OF_THE_REGISTRY, ids=named)
def test_the_registry_is_given_longer_to_stop_than_it_drains(path):
    (service,) = load(path)["services"].values()
    drains = config.load(None, service["environment"]).settings.http.draintimeout.total_seconds()
    assert drains < float(re.fullmatch(r"(\d+)s", service["stop_grace_period"]).group(1))


@pytest.mark.parametrize("path", [path for path in STACKS if path in OF_THE_REGISTRY], ids=named)
def test_one_task_writes_to_the_volume_and_the_old_one_stops_first(path):
    (service,) = load(path)["services"].values()
    deploy = service["deploy"]
    assert deploy["replicas"] == 1
    assert deploy["update_config"]["order"] == deploy["rollback_config"]["order"] == "stop-first"
    assert "node.hostname == server02" in deploy["placement"]["constraints"]


AUTH = {
    "REGISTRY_AUTH": "htpasswd",
    "REGISTRY_AUTH_HTPASSWD_REALM": "Registry",
    "REGISTRY_AUTH_HTPASSWD_PATH": "/run/secrets/htpasswd",
}


def uncommented(path, *sections):
    """The file with the comment signs of what is commented out, and is YAML of these sections, taken away."""
    text = path.read_text()
    for section in sections:
        text = re.sub(section, lambda found: re.sub(r"(?m)^( *)# ", r"\1", found[0]), text)
    return yaml.safe_load(text)


def test_the_stack_with_passwords_asks_for_them_over_tls():
    loaded = load(EXAMPLES / "stack.tls-auth.yml")
    (service,) = loaded["services"].values()
    assert AUTH.items() <= service["environment"].items()
    targets = {f"/run/secrets/{secret['target']}" for secret in service["secrets"]}
    settings = config.load(None, service["environment"]).settings
    assert {str(settings.auth.htpasswd.path), str(settings.http.tls.certificate), str(settings.http.tls.key)} == targets
    assert {secret["name"] for secret in loaded["secrets"].values()} == {
        "registry.crt",
        "registry.key",
        "registry.htpasswd",
    }


def test_the_public_stack_lets_anyone_pull_and_asks_for_passwords_over_tls():
    (service,) = load(EXAMPLES / "stack.public.yml")["services"].values()
    assert AUTH.items() <= service["environment"].items()
    settings = config.load(None, service["environment"]).settings
    assert settings.http.tls.certificate is not None
    anyone, users = settings.auth.access
    assert (anyone.users, anyone.repositories, anyone.actions) == (["anonymous"], ["**"], ["pull"])
    assert (users.users, users.repositories, users.actions) == (["authenticated"], ["**"], ["pull", "push", "delete"])


def test_the_commented_lines_of_the_stack_ask_for_passwords():
    loaded = uncommented(
        ROOT / "stack.yml",
        r"(?m)^ +# REGISTRY_AUTH\w*: .*$",
        r"(?m)^    # secrets:\n(    # .*\n){2}",
        r"(?m)^# secrets:\n(# .*\n){3}",
    )
    (service,) = loaded["services"].values()
    assert AUTH.items() <= service["environment"].items()
    assert service["secrets"] == [{"source": "registry_htpasswd", "target": "htpasswd"}]
    assert loaded["secrets"] == {"registry_htpasswd": {"external": True, "name": "registry.htpasswd"}}


def test_the_commented_lines_of_compose_ask_for_passwords():
    loaded = uncommented(EXAMPLES / "compose.yml", r"(?m)^ +# REGISTRY_AUTH\w*: .*$", r"(?m)^ +# - \./auth.*$")
    (service,) = loaded["services"].values()
    assert service["environment"]["REGISTRY_AUTH_HTPASSWD_PATH"] == "/auth/htpasswd"
    assert "./auth:/auth:ro" in service["volumes"]


IN_A_CONTAINER = re.compile(r"swarm-registry (user .+?)(?: <.*)?$", re.MULTILINE)
AS_A_PROGRAM = re.compile(r"^registry (user (?:add|passwd|remove|list) [^#<\n]+?) *(?:[#<].*)?$", re.MULTILINE)


@pytest.mark.parametrize(
    "path", [ROOT / "stack.yml", *EXAMPLES.glob("*.yml"), *GUIDES.values(), ROOT / "docs/configuration.md"], ids=named
)
def test_every_user_command_that_is_shown_works(path, tmp_path):
    """With a pipe in place of the terminal, and a directory in place of the mounted one."""
    shown = IN_A_CONTAINER.findall(path.read_text()) + AS_A_PROGRAM.findall(path.read_text())
    assert shown or path.name in {"stack.yml", "stack.host-mode.yml"}
    for command in shown:
        words = [word.replace("/work/", f"{tmp_path}/").replace("./", f"{tmp_path}/") for word in command.split()]
        if words[1] in {"add", "passwd"} and "--password-stdin" not in words:
            words.append("--password-stdin")
        done = subprocess.run(
            [sys.executable, "-m", "registry", *words], input=b"secret\n", capture_output=True, check=False, timeout=30
        )
        assert done.returncode == 0, (command, done.stderr)


def test_compose_opens_the_port_on_loopback_alone():
    (service,) = load(EXAMPLES / "compose.yml")["services"].values()
    assert service["ports"] == ["127.0.0.1:5000:5000"]


def test_helloworld_has_four_replicas_on_8080():
    (service,) = load(EXAMPLES / "helloworld/stack.yml")["services"].values()
    assert service["image"] == "127.0.0.1:5000/helloworld:v1"
    assert service["deploy"]["replicas"] == 4
    assert [port["published"] for port in service["ports"]] == [8080]


def test_helloworld_compiles_and_greets():
    source = (EXAMPLES / "helloworld/app.py").read_text()
    compile(source, "app.py", "exec")
    assert "Hello, World!" in source


def test_helloworld_dockerfile_takes_the_files_that_are_there():
    lines = (EXAMPLES / "helloworld/Dockerfile").read_text().splitlines()
    assert "ARG BASE=python:3.13-slim" in lines
    assert "FROM ${BASE}" in lines
    copied = [line.split()[1] for line in lines if line.startswith("COPY ")]
    assert copied
    assert all((EXAMPLES / "helloworld" / name).is_file() for name in copied)


def test_the_deploy_script_is_a_script():
    script = EXAMPLES / "helloworld/deploy.sh"
    assert os.access(script, os.X_OK)
    assert "\nset -euo pipefail\n" in script.read_text()
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    subprocess.run([bash, "-n", str(script)], check=True, timeout=30)


def test_the_deploy_script_builds_pushes_deploys_and_asks(tmp_path):
    """With stand-ins for docker and curl, which note what they are asked to do."""
    assert _deploy(tmp_path, replicas="4/4") == (
        0,
        [
            "docker build --tag helloworld:v1 .",
            "docker tag helloworld:v1 127.0.0.1:5000/helloworld:v1",
            "docker push 127.0.0.1:5000/helloworld:v1",
            "docker stack deploy --compose-file stack.yml helloworld",
            "docker service ls --filter name=helloworld_web --format {{.Replicas}}",
            "curl --silent --fail --max-time 5 --output /dev/null http://127.0.0.1:8080/",
            "curl --silent --show-error --fail --max-time 5 http://127.0.0.1:8080/",
        ],
    )


def test_the_deploy_script_does_not_wait_for_ever(tmp_path):
    status, called = _deploy(tmp_path, replicas="1/4", WAIT="0")
    assert status == 1
    assert called[-1] == "docker stack ps --no-trunc helloworld"


def _deploy(folder, replicas, **variables):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    calls = folder / "calls"
    for name, answer in {"docker": f'case "$1 $2" in "service ls") echo {replicas};; esac', "curl": ":"}.items():
        program = folder / name
        program.write_text(f'#!{bash}\necho "{name} $*" >> "{calls}"\n{answer}\n')
        program.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **variables}
    script = EXAMPLES / "helloworld/deploy.sh"
    done = subprocess.run([bash, str(script)], env=environment, capture_output=True, check=False, timeout=60)
    return done.returncode, calls.read_text().splitlines()


def _headings(text):
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line.split()[0] for line in outside.splitlines() if re.match(r"#+ ", line)]


def _blocks(text):
    """Each block of code, with the mark above it."""
    return re.findall(r"^(<!-- not run -->\n)?```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_guide_is_the_same_in_both_languages():
    english, spanish = (path.read_text() for path in GUIDES.values())
    assert len(_headings(english)) > 10
    assert _headings(spanish) == _headings(english)
    assert _blocks(spanish) == _blocks(english)


@pytest.mark.parametrize("path", GUIDES.values(), ids=GUIDES)
def test_links_within_the_guide_lead_to_headings(path):
    text = path.read_text()
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", text):
        page = (path.parent / target) if target else path
        titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
        assert anchor in slugs, f"{named(path)}: {target}#{anchor}"


def test_files_that_the_guide_names_are_there():
    for name in re.findall(r"\b(?:docs/examples/[\w./-]+\w|stack\.yml)", GUIDES["en"].read_text()):
        assert (ROOT / name).exists(), name


def test_the_table_of_the_guide_names_the_variables_of_the_stack():
    used = {name: default for name, _, default in VARIABLE.findall((ROOT / "stack.yml").read_text())}
    rows = dict(re.findall(r"^\| `(REGISTRY_\w+)` \| `?([^`|]*?)`? \|", GUIDES["en"].read_text(), re.MULTILINE))
    assert rows.keys() == used.keys()
    for name, default in rows.items():
        assert default in (used[name], "none, must be set"), name
