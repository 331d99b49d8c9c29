"""Lines of the log: text for people, JSON for programs, and nothing that a client sends can pass for another line."""

import json
import logging

import pytest

from registry import logs


@pytest.fixture
def lines(capsys):
    """What a logger wrote, after `logs.set_up` with the given formatter."""
    before = logging.getLogger().handlers[:], logging.getLogger().level

    def written(formatter, message, fields=None, always=None):
        logs.set_up("info", formatter, always or {}, access=True)
        logging.getLogger("registry.test").info(message, extra={"fields": fields} if fields is not None else None)
        return capsys.readouterr().err.splitlines()

    yield written
    logging.getLogger().handlers[:], level = before
    logging.getLogger().setLevel(level)


def test_a_line_of_text_ends_with_its_own_fields_and_those_of_every_line(lines):
    (line,) = lines("text", "push", {"repository": "a/b", "bytes": 3}, {"service": "r1"})
    assert line.endswith(" INFO registry.test: push repository=a/b bytes=3 service=r1")


def test_a_value_that_could_pass_for_something_else_is_quoted(lines):
    (line,) = lines("text", "push", {"user": "a=b", "agent": 'x "y"\nz', "none": ""})
    assert line.endswith(r'push user="a=b" agent="x \"y\"\nz" none=""')


def test_a_document_has_the_fields_as_members_that_do_not_replace_its_own(lines):
    (line,) = lines("json", "push", {"repository": "a/b", "msg": "forged"}, {"service": "r1"})
    document = json.loads(line)
    assert (document["repository"], document["service"], document["msg"]) == ("a/b", "r1", "push")


def test_a_percent_sign_is_a_percent_sign(lines):
    (line,) = lines("text", "push", {"done": "5%s"}, {"rate": "%d"})
    assert line.endswith("push done=5%s rate=%d")
