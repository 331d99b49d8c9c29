"""What a line of the log looks like: `log.formatter` and `log.fields` of registry:2.

A line may have fields of its own: `log.info("push", extra={"fields": {"repository": name}})`. They are members of the
document in json, and ` repository=name` after the text otherwise.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN = re.compile(r"[!#-<>-~]+")  # no blank, no quote, no equals sign


def set_up(level: str, formatter: str, fields: Mapping[str, Any], *, access: bool) -> None:
    """Send the log to standard error.

    Args:
        level: error, warn, info or debug.
        formatter: text, for people, or json, a document a line.
        fields: members of every line.
        access: whether each request has a line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(fields) if formatter == "json" else _Text(fields))
    logging.basicConfig(level={"warn": "WARNING"}.get(level, level.upper()), handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("uvicorn.access").disabled = not access


class _Text(logging.Formatter):
    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._shown = _listed(fields)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        return f"{super().formatMessage(record)}{_listed(_own(record))}{self._shown}"


class _Json(logging.Formatter):
    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__()
        self._fields = dict(fields)

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(self._fields | dict(_own(record)) | line, default=str)


def _own(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


def _listed(fields: Mapping[str, Any]) -> str:
    """` name=value` for each; a value that could pass for something else is quoted, as JSON has it."""
    return "".join(f" {name}={_shown(str(value))}" for name, value in fields.items())


def _shown(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value)
