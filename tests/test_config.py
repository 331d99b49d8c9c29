"""The configuration of registry:2, read by this registry: file, variables, secrets, and what is said of mistakes."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from registry import config
from registry.config import ConfigurationError, Settings, find, load, render, to_dict
from registry.config.inherited import INERT
from registry.config.settings import leaves
from registry.config.sources import variable
from registry.config.units import format_duration, format_size, parse_duration, parse_size

DOCUMENT = Path(__file__).parent.parent / "docs" / "configuration.md"

REGISTRY_2 = """\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
"""

REGISTRY_3 = """\
version: 0.1
log:
  level: debug
  fields:
    service: registry
    environment: development
storage:
  delete:
    enabled: true
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
  tag:
    concurrencylimit: 5
http:
  addr: :5000
  debug:
    addr: :5001
    prometheus:
      enabled: true
      path: /metrics
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
"""

DEBIAN = """\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/docker-registry
  delete:
    enabled: true
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
"""


@pytest.fixture
def written(tmp_path):
    """Writes a configuration file and loads it, under the given environment."""

    def write_and_load(text, environ=None):
        path = tmp_path / "config.yml"
        path.write_text(text)
        return load(path, environ or {})

    return write_and_load


def from_variables(environ):
    return load(None, environ).settings


def problems_of(environ, path=None):
    with pytest.raises(ConfigurationError) as refusal:
        load(path, environ)
    return str(refusal.value).splitlines()


class TestWhichFile:
    @pytest.fixture
    def shipped(self, tmp_path, monkeypatch):
        paths = (tmp_path / "docker" / "config.yml", tmp_path / "distribution" / "config.yml")
        for path in paths:
            path.parent.mkdir()
        monkeypatch.setattr(config, "CONFIGURATION_PATHS", paths)
        return paths

    def test_the_argument_wins_over_all(self, shipped):
        shipped[0].write_text(REGISTRY_2)
        assert find(Path("/my.yml"), {"REGISTRY_CONFIGURATION_PATH": "/other.yml"}) == Path("/my.yml")

    def test_the_variable_wins_over_the_usual_places(self, shipped):
        shipped[0].write_text(REGISTRY_2)
        assert find(None, {"REGISTRY_CONFIGURATION_PATH": "/other.yml"}) == Path("/other.yml")

    def test_the_place_of_version_2_wins_over_that_of_version_3(self, shipped):
        shipped[1].write_text(REGISTRY_3)
        assert find(None, {}) == shipped[1]
        shipped[0].write_text(REGISTRY_2)
        assert find(None, {}) == shipped[0]

    def test_an_empty_variable_asks_for_the_defaults(self, shipped):
        shipped[0].write_text(REGISTRY_2)
        assert find(None, {"REGISTRY_CONFIGURATION_PATH": ""}) is None

    def test_without_any_file_the_defaults_serve(self, shipped):
        assert find(None, {}) is None
        assert load(None, {}) == config.Loaded(Settings(), (), None)

    def test_the_usual_places_are_those_of_both_images(self):
        assert [str(path) for path in config.CONFIGURATION_PATHS] == [
            "/etc/docker/registry/config.yml",
            "/etc/distribution/config.yml",
        ]

    def test_what_was_loaded_names_its_file(self, tmp_path):
        path = tmp_path / "config.yml"
        path.write_text(REGISTRY_2)
        assert load(path, {}).source == path


class TestExistingConfigurations:
    def test_the_file_of_registry_2_loads_without_a_word(self, written):
        loaded = written(REGISTRY_2)
        assert loaded.notices == ()
        assert loaded.settings == Settings.model_validate({"log": {"fields": {"service": "registry"}}})

    def test_the_file_of_registry_3_loads_with_one_line_about_metrics(self, written):
        loaded = written(REGISTRY_3)
        assert loaded.notices == ("http.debug.addr: this version does not serve metrics and debug pages yet",)
        assert loaded.settings.log.level == "debug"

    def test_the_file_of_debian_loads_without_a_word_and_keeps_its_directory(self, written):
        loaded = written(DEBIAN)
        assert loaded.notices == ()
        assert loaded.settings.storage.filesystem.rootdirectory == Path("/var/lib/docker-registry")

    def test_the_short_form_of_storage(self, written):
        assert written("version: 0.1\nstorage: inmemory").settings.storage.inmemory
        assert not written("version: 0.1\nstorage: filesystem").settings.storage.inmemory

    def test_a_driver_without_parameters_is_chosen(self, written):
        assert written("version: 0.1\nstorage:\n  inmemory:\n").settings.storage.inmemory

    def test_the_old_place_of_the_log_level(self, written):
        assert written("version: 0.1\nloglevel: DEBUG").settings.log.level == "debug"
        assert written("version: 0.1\nloglevel: debug\nlog: {level: error}").settings.log.level == "error"

    def test_passwords_as_registry_2_takes_them(self, written):
        wanted = config.settings.Auth.model_validate(
            {"htpasswd": {"realm": "Registry Realm", "path": "/auth/htpasswd"}}
        )
        text = "version: 0.1\nauth:\n  htpasswd:\n    realm: Registry Realm\n    path: /auth/htpasswd\n"
        variables = {
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "Registry Realm",
            "REGISTRY_AUTH_HTPASSWD_PATH": "/auth/htpasswd",
        }
        assert written(text).settings.auth == wanted
        assert from_variables(variables).auth == wanted
        del variables["REGISTRY_AUTH"]
        assert from_variables(variables).auth == wanted
        assert (
            from_variables({name.replace("HTPASSWD", "htpasswd"): text for name, text in variables.items()}).auth
            == wanted
        )
        assert written(text, {"REGISTRY_AUTH": "none"}).settings.auth == Settings().auth
        shown = to_dict(written(text).settings)["auth"]
        assert shown["htpasswd"] == {"realm": "Registry Realm", "path": "/auth/htpasswd"}
        assert "token" not in shown

    def test_rules_of_access_from_file_and_variables(self, written):
        text = """version: 0.1
auth:
  htpasswd: {realm: Registry, path: /auth/htpasswd}
  groups: {builders: [ci, alice]}
  access:
    - {users: anonymous, repositories: "public/**", actions: pull}
    - {groups: [builders], repositories: ["**"], actions: [pull, push]}
"""
        settings = written(text).settings
        first, second = settings.auth.access
        assert (first.users, first.repositories, first.actions) == (["anonymous"], ["public/**"], ["pull"])
        assert (second.groups, second.actions) == (["builders"], ["pull", "push"])
        variables = {
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "Registry",
            "REGISTRY_AUTH_HTPASSWD_PATH": "/auth/htpasswd",
            "REGISTRY_AUTH_GROUPS": "{builders: [ci, alice]}",
            "REGISTRY_AUTH_ACCESS": "[{users: anonymous, repositories: 'public/**', actions: pull}, "
            "{groups: builders, repositories: '**', actions: [pull, push]}]",
        }
        assert from_variables(variables).auth == settings.auth
        assert written(render(settings)).settings == settings, "as shown, so loaded"

    @pytest.mark.parametrize(
        ("rules", "told"),
        [
            ("[{users: bob, repositories: '**', actions: write}]", "auth.access.0.actions.0"),
            ("[{users: bob, repositories: 'Team/**', actions: pull}]", "expected a repository or a pattern"),
            ("[{repositories: '**', actions: pull}]", "expected users or groups"),
            ("[{users: bob, repositories: [], actions: pull}]", "expected repositories"),
            ("[{groups: nobody, repositories: '**', actions: pull}]", "groups that are not in auth.groups: nobody"),
            ("[{user: bob, repositories: '**', actions: pull}]", "user"),
            ("{users: bob}", "auth.access"),
        ],
    )
    def test_a_rule_that_cannot_be_meant_is_refused(self, written, rules, told):
        text = f"version: 0.1\nauth: {{htpasswd: {{realm: r, path: /p}}, access: {rules}}}\n"
        with pytest.raises(ConfigurationError) as raised:
            written(text)
        assert told in str(raised.value)

    def test_rules_without_passwords_are_refused(self, written):
        with pytest.raises(ConfigurationError, match="expected htpasswd too"):
            written("version: 0.1\nauth: {access: [{users: anonymous, repositories: '**', actions: pull}]}\n")

    @pytest.mark.parametrize("auth", ["{none: {}}", "none", "{none: }", "''", "", "{}"])
    def test_no_passwords(self, written, auth):
        loaded = written(f"version: 0.1\nauth: {auth}\n")
        assert (loaded.settings, loaded.notices) == (Settings(), ())
        assert to_dict(loaded.settings)["auth"] == {"none": {}}

    def test_empty_sections_and_values_are_as_if_absent(self, written):
        text = "version: 0.1\nlog:\nhttp:\n  tls:\n  host: ''\n  secret:\nstorage:\n  filesystem:\nauth:\n"
        assert written(text).settings == Settings()

    def test_anchors_merges_and_names_for_them(self, written):
        text = "version: 0.1\nx-mine: &mine\n  level: warn\nlog:\n  <<: *mine\n  formatter: json\n"
        assert (written(text).settings.log.level, written(text).settings.log.formatter) == ("warn", "json")

    def test_small_thread_and_entry_numbers_become_useful_ones_as_in_registry_2(self, written):
        text = "version: 0.1\nstorage: {filesystem: {maxthreads: 3}}\ncatalog: {maxentries: 0}\ntags: {maxtags: 0}"
        settings = written(text).settings
        assert settings.storage.filesystem.maxthreads == 25
        assert settings.catalog.maxentries == 1000
        assert settings.tags.maxtags is None

    @pytest.mark.parametrize(
        ("given_prefix", "prefix"), [("/", ""), ("", ""), ("/x/", "/x/"), ("x", "/x/"), ("/a/b", "/a/b/")]
    )
    def test_a_prefix_stands_between_slashes(self, given_prefix, prefix):
        assert from_variables({"REGISTRY_HTTP_PREFIX": given_prefix}).http.prefix == prefix

    def test_logstash_is_written_as_json_and_said(self, written):
        loaded = written("version: 0.1\nlog: {formatter: logstash}")
        assert loaded.settings.log.formatter == "json"
        assert loaded.notices == ("log.formatter: logstash is written as json",)

    def test_the_older_switch_of_validation_wins(self):
        assert Settings().validation.active
        assert not from_variables({"REGISTRY_VALIDATION_DISABLED": "true"}).validation.active
        both = {"REGISTRY_VALIDATION_DISABLED": "true", "REGISTRY_VALIDATION_ENABLED": "true"}
        assert from_variables(both).validation.active

    def test_a_full_file_sets_every_part_of_the_tree(self, written):
        text = """\
version: "0.1"
log: {level: warn, formatter: json, fields: {service: hub, rack: 7}, accesslog: {disabled: yes}}
storage:
  filesystem: {rootdirectory: /data, maxthreads: 200, minfreespace: 2GiB}
  delete: {enabled: off}
  maintenance:
    readonly: {enabled: true}
    uploadpurging: {enabled: false, age: 24h, interval: 90m, dryrun: true}
http:
  addr: 127.0.0.1:5001
  host: https://hub.example.com:8443
  prefix: /hub/
  secret: 0123
  relativeurls: true
  draintimeout: 0
  headers: {Strict-Transport-Security: max-age=1, X-Two: [a, b]}
  tls:
    certificate: /c.pem
    key: /k.pem
    clientcas: /ca.pem
    clientauth: verify-client-cert-if-given
    minimumtls: tls1.3
    ciphersuites: [TLS_AES_128_GCM_SHA256]
catalog: {maxentries: 5}
tags: {maxtags: 6}
validation:
  disabled: true
  manifests:
    urls: {allow: ['^https://'], deny: '^http://'}
    indexes: {platforms: List, platformlist: [{architecture: arm, os: linux, variant: v7}]}
"""
        settings = written(text).settings
        default, changed = to_dict(Settings()), to_dict(settings)
        assert changed["http"].pop("net") == default["http"].pop("net")
        assert settings.log.fields == {"service": "hub", "rack": "7"}
        assert settings.http.secret.get_secret_value() == "0123"
        assert settings.http.draintimeout == timedelta(0)
        assert settings.http.headers == {"Strict-Transport-Security": ["max-age=1"], "X-Two": ["a", "b"]}
        assert settings.http.tls.clientcas == [Path("/ca.pem")]
        assert settings.validation.manifests.urls.deny == ["^http://"]
        assert settings.validation.manifests.indexes.platformlist[0].variant == "v7"
        assert settings.storage.filesystem.minfreespace == 2 << 30
        assert settings.storage.maintenance.uploadpurging.interval == timedelta(minutes=90)


COMMON_VARIABLES = [
    ("REGISTRY_HTTP_ADDR", "0.0.0.0:443", "http.addr", "0.0.0.0:443"),
    ("REGISTRY_HTTP_TLS_CLIENTCAS", "[/a.pem, /b.pem]", "http.tls.clientcas", ["/a.pem", "/b.pem"]),
    ("REGISTRY_HTTP_TLS_CLIENTCAS_0", "/a.pem", "http.tls.clientcas", ["/a.pem"]),
    ("REGISTRY_HTTP_HOST", "https://hub.example.com", "http.host", "https://hub.example.com"),
    ("REGISTRY_HTTP_RELATIVEURLS", "true", "http.relativeurls", True),
    ("REGISTRY_HTTP_DRAINTIMEOUT", "90s", "http.draintimeout", "1m30s"),
    ("REGISTRY_STORAGE_DELETE_ENABLED", "false", "storage.delete.enabled", False),
    ("REGISTRY_STORAGE_DELETE_ENABLED", '"true"', "storage.delete.enabled", True),
    ("REGISTRY_STORAGE_DELETE", "{enabled: false}", "storage.delete.enabled", False),
    ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/data", "storage.filesystem.rootdirectory", "/data"),
    ("REGISTRY_STORAGE_filesystem_rootdirectory", "/data", "storage.filesystem.rootdirectory", "/data"),
    ("REGISTRY_STORAGE", "inmemory", "storage.inmemory", {}),
    ("REGISTRY_STORAGE_MAINTENANCE_READONLY", '{"enabled":true}', "storage.maintenance.readonly.enabled", True),
    ("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true", "storage.maintenance.readonly.enabled", True),
    ("REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_AGE", "1h", "storage.maintenance.uploadpurging.age", "1h"),
    ("REGISTRY_LOG_LEVEL", "Debug", "log.level", "debug"),
    ("REGISTRY_LOGLEVEL", "debug", "log.level", "debug"),
    ("REGISTRY_LOG_FORMATTER", "json", "log.formatter", "json"),
    ("REGISTRY_LOG_FIELDS_RACK", "7", "log.fields", {"rack": "7"}),
    ("REGISTRY_LOG_ACCESSLOG_DISABLED", "true", "log.accesslog.disabled", True),
    ("REGISTRY_VALIDATION_DISABLED", "true", "validation.disabled", True),
    ("REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW", "['^https://']", "validation.manifests.urls.allow", ["^https://"]),
    ("REGISTRY_CATALOG_MAXENTRIES", "50", "catalog.maxentries", 50),
    ("REGISTRY_TAGS_MAXTAGS", "50", "tags.maxtags", 50),
    ("REGISTRY_HTTP_DEBUG_ADDR", ":5001", "http.debug.addr", ":5001"),
    ("REGISTRY_HTTP_SECRET", "abc", "http.secret", "****"),
]

HARMLESS_VARIABLES = [
    ("REGISTRY_AUTH", "none", None),
    ("REGISTRY_AUTH", "", None),
    ("REGISTRY_PROXY_REMOTEURL", "", None),
    ("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "inmemory", None),
    ("REGISTRY_HEALTH_STORAGEDRIVER_ENABLED", "false", None),
    ("REGISTRY_HTTP_HTTP2_DISABLED", "false", None),
    ("REGISTRY_STORAGE_REDIRECT_DISABLE", "true", "storage.redirect"),
    ("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "redis", "storage.cache"),
    ("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTORSIZE", "10000", "storage.cache"),
    ("REGISTRY_REDIS_ADDR", "redis:6379", "redis"),
    ("REGISTRY_REDIS_ADDRS", "[redis:6379]", "redis"),
    ("REGISTRY_PROXY_PASSWORD", "secret", "proxy"),
    ("REGISTRY_HEALTH_FILE", "[{file: /tmp/down}]", "health"),
    ("REGISTRY_HTTP_H2C_ENABLED", "true", "http.h2c"),
    ("REGISTRY_MIDDLEWARE_STORAGE", "[{name: redirect}]", "middleware"),
    ("REGISTRY_COMPATIBILITY_SCHEMA1_ENABLED", "true", "compatibility"),
]


class TestVariables:
    @pytest.mark.parametrize(("name", "value", "key", "expected"), COMMON_VARIABLES)
    def test_each_common_variable_sets_its_key(self, name, value, key, expected):
        here = to_dict(from_variables({name: value}))
        for part in key.split("."):
            here = here[part]
        assert here == expected

    @pytest.mark.parametrize(("name", "value", "key", "expected"), COMMON_VARIABLES)
    def test_each_common_variable_wins_over_the_file_of_registry_3(self, written, name, value, key, expected):
        here = to_dict(written(REGISTRY_3, {name: value}).settings)
        for part in key.split("."):
            here = here[part]
        assert here == expected or here == {"service": "registry", "environment": "development", **expected}

    @pytest.mark.parametrize(("name", "value", "named"), HARMLESS_VARIABLES)
    def test_variables_without_effect_are_named_once_or_not_at_all(self, written, name, value, named):
        loaded = written(REGISTRY_2, {name: value})
        lines = (f"accepted, but without effect in this registry: {named}",) if named else ()
        assert loaded.notices == lines
        assert to_dict(loaded.settings) == to_dict(written(REGISTRY_2).settings)

    def test_certificate_and_key(self):
        environ = {"REGISTRY_HTTP_TLS_CERTIFICATE": "/certs/a.crt", "REGISTRY_HTTP_TLS_KEY": "/certs/a.key"}
        tls = from_variables(environ).http.tls
        assert (tls.certificate, tls.key) == (Path("/certs/a.crt"), Path("/certs/a.key"))

    def test_header_names_keep_their_dashes_and_case_and_stay_beside_the_usual_one(self):
        environ = {
            "REGISTRY_HTTP_HEADERS_Access-Control-Allow-Origin": '["*"]',
            "REGISTRY_HTTP_HEADERS_X-Frame-Options": "DENY",
        }
        assert from_variables(environ).http.headers == {
            "X-Content-Type-Options": ["nosniff"],
            "Access-Control-Allow-Origin": ["*"],
            "X-Frame-Options": ["DENY"],
        }

    def test_a_header_in_the_file_is_met_whatever_the_case(self, written):
        loaded = written(REGISTRY_2, {"REGISTRY_HTTP_HEADERS_X-CONTENT-TYPE-OPTIONS": "[a, b]"})
        assert loaded.settings.http.headers == {"X-Content-Type-Options": ["a", "b"]}

    def test_a_whole_map_replaces_the_map(self, written):
        loaded = written(REGISTRY_2, {"REGISTRY_HTTP_HEADERS": "{X-Frame-Options: [DENY]}"})
        assert loaded.settings.http.headers == {"X-Frame-Options": ["DENY"]}

    def test_storage_as_a_word_replaces_all_of_storage(self, written):
        text = "version: 0.1\nstorage: {filesystem: {rootdirectory: /data}, delete: {enabled: false}}"
        environ = {"REGISTRY_STORAGE": "filesystem", "REGISTRY_STORAGE_FILESYSTEM_MAXTHREADS": "50"}
        settings = written(text, environ).settings
        assert settings.storage == Settings.model_validate({"storage": {"filesystem": {"maxthreads": 50}}}).storage

    def test_a_variable_that_chooses_a_driver_wins_over_the_untouched_one_of_the_file(self, written):
        assert written(REGISTRY_2, {"REGISTRY_STORAGE_INMEMORY": "{}"}).settings.storage.inmemory

    def test_an_element_of_a_list_may_be_replaced_and_one_appended(self, written):
        text = "version: 0.1\nhttp: {tls: {certificate: /c, key: /k, clientcas: [/a, /b]}}"
        environ = {"REGISTRY_HTTP_TLS_CLIENTCAS_1": "/B", "REGISTRY_HTTP_TLS_CLIENTCAS_2": "/c"}
        assert written(text, environ).settings.http.tls.clientcas == [Path("/a"), Path("/B"), Path("/c")]

    def test_an_index_beyond_the_list_is_a_problem(self, tmp_path):
        path = tmp_path / "config.yml"
        path.write_text("version: 0.1\nhttp: {tls: {clientcas: [/a]}}")
        assert problems_of({"REGISTRY_HTTP_TLS_CLIENTCAS_5": "/b"}, path) == [
            "http.tls.clientcas.5 (REGISTRY_HTTP_TLS_CLIENTCAS_5): expected a number up to 1, got '5'"
        ]

    @pytest.mark.parametrize("password", ["0123", "1e5", "yes", "2001-01-01", "1_000", "'0123'", "12:30"])
    def test_texts_that_look_like_other_types_stay_as_they_are(self, password):
        secret = from_variables({"REGISTRY_HTTP_SECRET": password}).http.secret
        assert secret.get_secret_value() == password.strip("'")

    def test_an_empty_variable_takes_back_what_the_file_says(self, written):
        assert written("version: 0.1\nhttp: {host: https://x}", {"REGISTRY_HTTP_HOST": ""}).settings.http.host is None

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("REGISTRY_HTTP_ADRR", "REGISTRY_HTTP_ADDR"),
            ("REGISTRY_HTTP_DRAIN_TIMEOUT", "REGISTRY_HTTP_DRAINTIMEOUT"),
            ("REGISTRY_STORAGE_DELETE_ENABLE", "REGISTRY_STORAGE_DELETE_ENABLED"),
            ("REGISTRY_LOG_LEVEL_", "REGISTRY_LOG_LEVEL"),
        ],
    )
    def test_a_misspelt_variable_is_ignored_and_the_right_one_suggested(self, name, meant):
        loaded = load(None, {name: "1"})
        assert loaded.settings == Settings()
        assert loaded.notices == (f"{name}: no setting has this name, ignored; did you mean {meant}?",)

    @pytest.mark.parametrize("name", ["REGISTRY_PORT", "REGISTRY_VERSION", "REGISTRY_", "REGISTRY_http_addr"])
    def test_a_variable_of_something_else_is_ignored(self, name):
        loaded = load(None, {name: "tcp://10.0.0.1:5000"})
        assert loaded.settings == Settings()
        assert [line.split(":")[0] for line in loaded.notices] == [name]

    def test_other_names_and_the_path_of_the_file_are_left_alone(self):
        environ = {
            "PATH": "/bin",
            "REGISTRY_CONFIGURATION_PATH": "/x",
            "OTEL_TRACES_EXPORTER": "none",
            "registry_http_addr": "x",
        }
        assert load(None, environ) == load(None, {})


class TestSecretFiles:
    """P19: secrets need not stand in the environment."""

    @pytest.mark.parametrize(
        ("content", "secret"),
        [
            ("s3cret\n", "s3cret"),
            ("s3cret", "s3cret"),
            ("a: b # c\n\n", "a: b # c\n"),
            ("x\r\n", "x"),
            ("0123", "0123"),
        ],
    )
    def test_the_text_of_the_file_is_the_value_less_one_line_end(self, tmp_path, content, secret):
        path = tmp_path / "registry_http_secret"
        path.write_bytes(content.encode())
        settings = from_variables({"REGISTRY_HTTP_SECRET_FILE": str(path)})
        assert settings.http.secret.get_secret_value() == secret

    def test_any_single_value_may_come_from_a_file_and_wins_over_the_configuration(self, tmp_path, written):
        (tmp_path / "level").write_text("error\n")
        (tmp_path / "threads").write_text("77\n")
        environ = {
            "REGISTRY_LOG_LEVEL_FILE": str(tmp_path / "level"),
            "REGISTRY_STORAGE_FILESYSTEM_MAXTHREADS_FILE": str(tmp_path / "threads"),
        }
        settings = written(REGISTRY_3, environ).settings
        assert (settings.log.level, settings.storage.filesystem.maxthreads) == ("error", 77)

    def test_every_single_setting_has_a_file_form(self, tmp_path):
        (tmp_path / "value").write_text("?\n")
        for path, field in leaves():
            if "list" in str(field.annotation) or "dict" in str(field.annotation) or path == ("version",):
                continue
            name = variable(".".join(path)) + "_FILE"
            assert not any("no setting" in line for line in notices_or_problems({name: str(tmp_path / "value")})), name

    def test_a_value_and_a_file_for_one_key_are_a_problem(self, tmp_path):
        environ = {"REGISTRY_HTTP_SECRET": "a", "REGISTRY_HTTP_SECRET_FILE": str(tmp_path / "b")}
        assert problems_of(environ) == [
            "http.secret: expected REGISTRY_HTTP_SECRET or REGISTRY_HTTP_SECRET_FILE, got both"
        ]

    def test_an_empty_one_of_the_two_does_not_count(self, tmp_path):
        (tmp_path / "b").write_text("b")
        environ = {"REGISTRY_HTTP_SECRET": "", "REGISTRY_HTTP_SECRET_FILE": str(tmp_path / "b")}
        assert from_variables(environ).http.secret.get_secret_value() == "b"
        environ = {"REGISTRY_HTTP_SECRET": "a", "REGISTRY_HTTP_SECRET_FILE": ""}
        assert from_variables(environ).http.secret.get_secret_value() == "a"

    def test_an_unreadable_file_is_one_clear_line(self):
        assert problems_of({"REGISTRY_HTTP_SECRET_FILE": "/run/secrets/none"}) == [
            "http.secret (REGISTRY_HTTP_SECRET_FILE): cannot read /run/secrets/none: No such file or directory"
        ]

    def test_a_file_that_is_not_text_is_one_clear_line(self, tmp_path):
        (tmp_path / "b").write_bytes(b"\xff")
        assert problems_of({"REGISTRY_HTTP_SECRET_FILE": str(tmp_path / "b")}) == [
            f"http.secret (REGISTRY_HTTP_SECRET_FILE): expected UTF-8 text in {tmp_path / 'b'}"
        ]

    def test_the_key_health_file_of_registry_2_is_no_secret_file(self):
        assert load(None, {"REGISTRY_HEALTH_FILE": "[{file: /x}]"}).notices == (
            "accepted, but without effect in this registry: health",
        )

    def test_a_wrong_value_in_a_file_names_the_variable_of_the_file(self, tmp_path):
        (tmp_path / "level").write_text("loud\n")
        assert problems_of({"REGISTRY_LOG_LEVEL_FILE": str(tmp_path / "level")}) == [
            "log.level (REGISTRY_LOG_LEVEL_FILE): expected 'error', 'warn', 'info' or 'debug', got 'loud'"
        ]


def notices_or_problems(environ):
    try:
        return load(None, environ).notices
    except ConfigurationError as refusal:
        return str(refusal).splitlines()


# Blocks of a configuration and, last, the line that it is answered with.
TOKENS = """
version: 0.1
auth:
  htpasswd: {realm: Registry, path: /auth/htpasswd}
  tokens: {enabled: true, key: /run/secrets/key, lifetime: 10m}
"""

OTHERS_TOKENS = """
version: 0.1
auth:
  token:
    realm: https://auth/token
    service: registry
    issuer: Auth
    rootcertbundle: /certs/auth.crt
"""

WRONG_FILES = """
htpp: {addr: ':80'}
htpp: unknown key; did you mean http?

http: {address: ':80'}
http.address: unknown key; did you mean http.addr?

storage: {rootdirectory: /d}
storage.rootdirectory: unknown key; did you mean storage.filesystem.rootdirectory?

storage: {foo: {}}
storage.foo: unknown key

log: {zzz: 1}
log.zzz: unknown key

log: debug
log: expected a section with keys of its own, got 'debug'

http: {draintimeout: soon}
http.draintimeout: expected a duration such as 30s or 5m, got 'soon'

http: {draintimeout: -1s}
http.draintimeout: expected a duration of 0s or more, got '-1s'

http: {draintimeout: 99999999999h}
http.draintimeout: expected a shorter duration, got '99999999999h'

http: {addr: 5000}
http.addr: expected an address and port such as :5000 or 127.0.0.1:5000, got '5000'

http: {addr: ':70000'}
http.addr: expected an address and port such as :5000 or 127.0.0.1:5000, got ':70000'

http: {host: example.com}
http.host: expected a URL such as https://registry.example.com, got 'example.com'

http: {host: 'http://[x'}
http.host: expected a URL such as https://registry.example.com, got 'http://[x'

http: {relativeurls: maybe}
http.relativeurls: expected true or false, got 'maybe'

http: {net: udp}
http.net: expected 'tcp' or 'unix', got 'udp'

http: {tls: {key: /k}}
http.tls: expected certificate and key together, or neither

http: {headers: {a b: c}}
http.headers.a b: expected the name of an HTTP header, got 'a b'

http: {headers: {A: "b\\nc"}}
http.headers.A.0: expected the value of an HTTP header, on one line, got 'b\\nc'

http: {headers: []}
http.headers: expected a map of names to values

http: {headers: {A: {b: c}}}
http.headers.A: expected a list

http: {secret: [a]}
http.secret: expected text

storage: {filesystem: {maxthreads: many}}
storage.filesystem.maxthreads: expected a whole number, got 'many'

storage: {filesystem: {maxthreads: -5}}
storage.filesystem.maxthreads: expected 0 or more, got '-5'

storage: {filesystem: {minfreespace: lots}}
storage.filesystem.minfreespace: expected a size such as 512MiB or 2GiB, got 'lots'

storage: {filesystem: {rootdirectory: [a]}}
storage.filesystem.rootdirectory: expected a path

storage: {maintenance: {readonly: true}}
storage.maintenance.readonly: expected a section with keys of its own, got 'true'

storage: {maintenance: {uploadpurging: {interval: 0s}}}
storage.maintenance.uploadpurging.interval: expected a duration of more than 0s, such as 30m or 24h, got '0s'

storage: {maintenance: {uploadpurging: {age: 168}}}
storage.maintenance.uploadpurging.age: expected a duration of more than 0s, such as 30m or 24h, got '168'

validation: {manifests: {urls: {allow: ['[']}}}
validation.manifests.urls.allow.0: expected a regular expression, got '['

validation: {manifests: {indexes: {platformlist: [{os: linux}]}}}
validation.manifests.indexes.platformlist.0.architecture: missing

storage: {filesystem: {}, inmemory: {}}
storage.inmemory: expected one storage driver, got filesystem and inmemory

storage: {s3: {bucket: b}}
storage.s3: not supported by this version yet; use storage.filesystem

storage: azure
storage.azure: not supported by this version yet; use storage.filesystem

storage: [filesystem]
storage: expected a section with keys of its own

http: {tls: {letsencrypt: {cachefile: /c}}}
http.tls.letsencrypt: not supported; name the files of a certificate in http.tls.certificate and http.tls.key

auth: {htpasswd: {}}
auth.htpasswd: expected realm and path together; refusing to serve without the protection that you ask for

auth: {htpasswd: {realm: '', path: /p}}
auth.htpasswd: expected realm and path together; refusing to serve without the protection that you ask for

auth: {htpasswd: {realm: r, path: /p, file: /q}}
auth.htpasswd.file: unknown key

auth: {htpasswd: /p}
auth.htpasswd: expected a section with keys of its own, got '/p'

auth: {htpasswd: {realm: "a\\nb", path: /p}}
auth.htpasswd.realm: expected the value of an HTTP header, on one line, got 'a\\nb'

auth: {none: {}, htpasswd: {realm: r, path: /p}}
auth.htpasswd: expected one kind of authentication, got none and htpasswd

auth: {silly: {realm: r, service: s}}
auth.silly: this version cannot do this yet; refusing to serve without the protection that you ask for

auth: {token: {}}
auth.token: expected realm, service, issuer, and rootcertbundle or jwks; refusing to serve without the protection that \
you ask for

auth: {token: {realm: 'https://x/', issuer: i}}
auth.token: expected service, rootcertbundle (or jwks) too; refusing to serve without the protection that you ask for

auth: {token: {realm: r}}
auth.token.realm: expected a URL such as https://auth.example.com/token, got 'r'

auth: {token: {realm: 'https://x/', issuer: i, service: s, jwks: /j, signingalgorithms: [none]}}
auth.token.signingalgorithms.0: expected 'EdDSA', 'ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512', 'RS256', \
'RS384' or 'RS512', got 'none'

auth: {token: {realm: 'https://x/', issuer: i, service: s, jwks: /j, signingalgorithms: HS256}}
auth.token.signingalgorithms.0: expected 'EdDSA', 'ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512', 'RS256', \
'RS384' or 'RS512', got 'HS256'

auth: {token: {realm: 'https://x/', issuer: i, service: s, jwks: /j}, htpasswd: {realm: r, path: /p}}
auth.htpasswd: expected one kind of authentication, got token and htpasswd

auth: {htpasswd: {realm: r, path: /p}, tokens: {lifetime: 59s}}
auth.tokens.lifetime: expected 60s or more: clients take no token to be shorter, got '59s'

auth: {tokens: {enabled: true}}
auth: expected htpasswd too, where tokens.enabled is true; refusing to serve without the protection that you ask for

auth: [htpasswd]
auth: expected a section such as htpasswd

proxy: {remoteurl: https://registry-1.docker.io}
proxy.remoteurl: this version cannot be a pull-through cache yet; refusing to serve as a registry of its own instead
"""

WRONG_VARIABLES = """
REGISTRY_HTTP_DRAINTIMEOUT=soon
http.draintimeout (REGISTRY_HTTP_DRAINTIMEOUT): expected a duration such as 30s or 5m, got 'soon'

REGISTRY_HTTP={adr: 1}
http.adr (REGISTRY_HTTP): unknown key; did you mean http.addr?

REGISTRY_HTTP_TLS_CLIENTCAS_3=/a
http.tls.clientcas (REGISTRY_HTTP_TLS_CLIENTCAS_3): expected a list

REGISTRY_HTTP_TLS_KEY=/k
http.tls (REGISTRY_HTTP_TLS_KEY): expected certificate and key together, or neither

REGISTRY_LOGLEVEL=x
log.level (REGISTRY_LOGLEVEL): expected 'error', 'warn', 'info' or 'debug', got 'x'

REGISTRY_STORAGE=s3
storage.s3 (REGISTRY_STORAGE): not supported by this version yet; use storage.filesystem

REGISTRY_STORAGE_S3_BUCKET=b
storage.s3 (REGISTRY_STORAGE_S3_BUCKET): not supported by this version yet; use storage.filesystem

REGISTRY_STORAGE_FILESYTEM_ROOTDIRECTORY=/data
storage.filesytem (REGISTRY_STORAGE_FILESYTEM_ROOTDIRECTORY): unknown key; did you mean storage.filesystem?
"""


WORDS = sorted({word.upper() for path, _ in leaves() for word in path})
WORDS += ["AUTH", "S3", "ENDPOINTS", "NOTIFICATIONS", "LETSENCRYPT", "REMOTEURL", "PROXY", "0", "1", "X-A", "lower", ""]


def blocks(text):
    return [tuple(block.rsplit("\n", 1)) for block in text.strip().split("\n\n")]


class TestMistakes:
    @pytest.mark.parametrize(("text", "line"), blocks(WRONG_FILES))
    def test_a_mistake_is_one_line_with_the_key_and_what_was_expected(self, written, text, line):
        with pytest.raises(ConfigurationError) as refusal:
            written(f"version: 0.1\n{text}\n")
        assert str(refusal.value) == line

    def test_every_mistake_is_told_at_once(self, tmp_path):
        path = tmp_path / "config.yml"
        path.write_text("version: 0.1\nlog: {level: loud}\nauth: {htpasswd: {}}\nhttp: {adr: ':1'}")
        keys = [line.split(":")[0] for line in problems_of({"REGISTRY_HTTP_SECRET": "@x"}, path)]
        assert keys == ["http.secret (REGISTRY_HTTP_SECRET)", "auth.htpasswd", "log.level", "http.adr"]

    @pytest.mark.parametrize(("assignment", "line"), blocks(WRONG_VARIABLES))
    def test_a_mistake_in_a_variable_names_the_variable(self, assignment, line):
        assert problems_of(dict([assignment.split("=")])) == [line]

    @pytest.mark.parametrize(
        ("name", "value", "starts"),
        [
            ("REGISTRY_AUTH", "htpasswd", "auth.htpasswd (REGISTRY_AUTH): "),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/p", "auth.htpasswd (REGISTRY_AUTH_HTPASSWD_PATH): "),
            ("REGISTRY_AUTH_SILLY_REALM", "x", "auth.silly (REGISTRY_AUTH_SILLY_REALM): "),
            ("REGISTRY_AUTH_LDAP_HOST", "x", "auth.ldap (REGISTRY_AUTH_LDAP_HOST): "),
            ("REGISTRY_AUTH_TOKEN_REALM", "https://x/", "auth.token (REGISTRY_AUTH_TOKEN_REALM): "),
            ("REGISTRY_PROXY_REMOTEURL", "https://x", "proxy.remoteurl (REGISTRY_PROXY_REMOTEURL): "),
        ],
    )
    def test_protection_that_a_variable_asks_for_is_not_left_out(self, name, value, starts):
        (line,) = problems_of({name: value})
        assert line.startswith(starts)
        assert "refusing to serve" in line

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "version: missing in {path}; expected the line version: 0.1"),
            (b"log: {}", "version: missing in {path}; expected the line version: 0.1"),
            (b"version: 0.2", "version: expected '0.1', got '0.2'"),
            (b"- a", "{path}: expected a YAML map that begins with version: 0.1"),
            (b"a: b: c", "{path}, line 1, column 5: not valid YAML: mapping values are not allowed here"),
            (b"a: *hidden", "{path}, line 1, column 4: not valid YAML"),
            (b"a: \x07", "{path}: not valid YAML"),
            (b"\xff", "{path}: expected UTF-8 text"),
        ],
    )
    def test_a_file_that_is_no_configuration_is_one_clear_line(self, tmp_path, content, says):
        path = tmp_path / "config.yml"
        path.write_bytes(content)
        assert problems_of({}, path) == [says.format(path=path)]

    def test_a_file_that_is_not_there_is_one_clear_line(self, tmp_path):
        path = tmp_path / "none.yml"
        assert problems_of({}, path) == [f"{path}: cannot read the configuration file: No such file or directory"]

    @hypothesis_settings(deadline=None, max_examples=300)
    @given(
        st.dictionaries(
            st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(lambda parts: "REGISTRY_" + "_".join(parts)),
            st.one_of(st.sampled_from(["{}", "[]", "{a: b}", "[a, {b: c}]", "1", "true", "~", ""]), st.text()),
        )
    )
    def test_whatever_the_variables_say_it_is_settings_or_a_configuration_error(self, environ):
        try:
            assert isinstance(load(None, environ).settings, Settings)
        except ConfigurationError as refusal:
            assert str(refusal)

    def test_a_secret_is_in_no_message(self, tmp_path):
        for value in ("*hunter2", "[hunter2]", "{a: hunter2}", '"hunter2'):
            assert "hunter2" not in "\n".join(problems_of({"REGISTRY_HTTP_SECRET": value}))

    def test_events_that_somebody_waits_for_are_missed_aloud(self, written):
        text = "version: 0.1\nnotifications: {endpoints: [{name: a, disabled: true}, {name: ci, url: http://x}]}"
        line = "notifications.endpoints: events are not sent by this version; waiting in vain: ci"
        assert written(text).notices == (line,)
        assert load(None, {"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME": "ci"}).notices == (line,)
        assert load(None, {"REGISTRY_NOTIFICATIONS_ENDPOINTS": "[{name: ci}]"}).notices == (line,)

    def test_endpoints_that_are_all_off_are_no_news(self, written):
        assert written("version: 0.1\nnotifications: {endpoints: [{name: a, disabled: true}]}").notices == ()

    def test_what_has_no_effect_is_named_in_one_line(self, written):
        text = "version: 0.1\nredis: {addr: x}\nreporting: {bugsnag: {apikey: k}}\nlog: {hooks: [{type: mail}]}"
        line = "accepted, but without effect in this registry: log.hooks, redis, reporting"
        assert written(text).notices == (line,)


class TestSettings:
    def test_they_are_frozen(self):
        with pytest.raises(ValidationError):
            Settings().http.addr = ":80"

    def test_secrets_are_hidden(self):
        settings = from_variables({"REGISTRY_HTTP_SECRET": "hunter2"})
        for shown in (repr(settings), str(settings), render(settings), json.dumps(to_dict(settings))):
            assert "hunter2" not in shown
        assert to_dict(settings)["http"]["secret"] == "****"

    @pytest.mark.parametrize(
        "text", [REGISTRY_2, REGISTRY_3, DEBIAN, TOKENS, OTHERS_TOKENS, "version: 0.1\nstorage: inmemory"]
    )
    def test_what_is_rendered_loads_to_the_same_settings(self, written, text):
        settings = written(text).settings
        assert written(render(settings)).settings == settings
        assert yaml.safe_load(render(settings)) == json.loads(json.dumps(to_dict(settings)))


class TestTokens:
    def test_those_of_another_server_as_registry_2_and_3_take_them(self, written):
        token = written(OTHERS_TOKENS).settings.auth.token
        assert (token.realm, token.service, token.issuer) == ("https://auth/token", "registry", "Auth")
        assert str(token.rootcertbundle) == "/certs/auth.crt"
        assert len(token.signingalgorithms) == 10
        variables = {
            "REGISTRY_AUTH": "token",
            "REGISTRY_AUTH_TOKEN_REALM": "https://auth/token",
            "REGISTRY_AUTH_TOKEN_SERVICE": "registry",
            "REGISTRY_AUTH_TOKEN_ISSUER": "Auth",
            "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": "/certs/auth.crt",
        }
        assert from_variables(variables).auth.token == token
        assert from_variables(variables | {"REGISTRY_AUTH_TOKEN_SIGNINGALGORITHMS_0": "ES256"}).auth.token != token

    def test_an_automatic_realm_is_told_to_have_no_effect(self, written):
        (notice,) = written(OTHERS_TOKENS + "    autoredirect: true\n").notices
        assert notice.endswith("auth.token.autoredirect")
        assert written(OTHERS_TOKENS + "    autoredirect: false\n").notices == ()

    def test_those_of_our_own_beside_passwords(self, written):
        tokens = written(TOKENS).settings.auth.tokens
        assert (tokens.enabled, tokens.lifetime.total_seconds()) == (True, 600)
        assert str(tokens.key) == "/run/secrets/key"


class TestUnits:
    @pytest.mark.parametrize(
        ("text", "duration"),
        [
            ("10s", timedelta(seconds=10)),
            ("1m30s", timedelta(seconds=90)),
            ("168h", timedelta(days=7)),
            ("500ms", timedelta(milliseconds=500)),
            ("1.5h", timedelta(minutes=90)),
            (".5s", timedelta(milliseconds=500)),
            ("2us", timedelta(microseconds=2)),
            ("2\u00b5s", timedelta(microseconds=2)),
            ("1999ns", timedelta(microseconds=1)),
            ("60000000000", timedelta(minutes=1)),
            ("0", timedelta(0)),
            ("-5s", timedelta(seconds=-5)),
            ("+5s", timedelta(seconds=5)),
        ],
    )
    def test_durations_are_those_of_go(self, text, duration):
        assert parse_duration(text) == duration

    @pytest.mark.parametrize("text", ["", "s", "5", "5 s", "5d", "1h-5m", "--5s", "5s ", "\u0665s", "1..5s"])
    def test_what_is_no_duration_is_refused_but_bare_numbers_are_nanoseconds(self, text):
        if text.isdecimal():
            assert parse_duration(text) == timedelta(0)
        else:
            with pytest.raises(ValueError, match="expected a duration such as"):
                parse_duration(text)

    @given(st.timedeltas())
    def test_a_written_duration_reads_as_itself(self, duration):
        assert parse_duration(format_duration(duration)) == duration

    @pytest.mark.parametrize(
        ("text", "size"),
        [("0", 0), ("4096", 4096), ("512MiB", 512 << 20), ("2GiB", 2 << 30), ("1GB", 10**9), ("1.5 kib", 1536)],
    )
    def test_sizes(self, text, size):
        assert parse_size(text) == size

    @pytest.mark.parametrize("text", ["", "-1", "1 parsec", "GiB", "1G iB"])
    def test_what_is_no_size_is_refused(self, text):
        with pytest.raises(ValueError, match="expected a size such as"):
            parse_size(text)

    @given(st.integers(min_value=0, max_value=1 << 70))
    def test_a_written_size_reads_as_itself(self, size):
        assert parse_size(format_size(size)) == size


class TestDocument:
    """docs/configuration.md and the code say the same."""

    @pytest.fixture
    def rows(self):
        lines = re.findall(r"^\| `([a-z0-9.]+)` \| `(\w+)` \| (.+?) \| .+ \|$", DOCUMENT.read_text(), re.MULTILINE)
        return {key: (name, default) for key, name, default in lines}

    def test_every_setting_has_a_row_and_every_row_a_setting(self, rows):
        assert set(rows) == {".".join(path) for path, _ in leaves()} - {"version"}

    def test_rows_name_the_variable(self, rows):
        assert {key: name for key, (name, _) in rows.items()} == {key: variable(key) for key in rows}

    def test_rows_have_the_default(self, rows):
        defaults = Settings().model_dump(mode="json")
        for key, (_, default) in rows.items():
            value = defaults
            for part in key.split("."):
                value = value[part]
            assert default == (
                "none" if value is None else f"`{value if isinstance(value, str) and value else json.dumps(value)}`"
            ), key

    def test_every_key_without_effect_has_a_row_and_every_such_row_a_key(self):
        section = DOCUMENT.read_text().split("## Accepted, without effect")[1].split("\n## ")[0]
        assert re.findall(r"^\| `([a-z0-9.]+)` \|", section, re.MULTILINE) == list(INERT)

    def test_its_example_files_load(self, written):
        examples = re.findall(r"```yaml\n(version.+?)```", DOCUMENT.read_text(), re.DOTALL)
        assert examples
        for example in examples:
            assert written(example).notices == ()
