"""What a line of the log looks like: `log.formatter` and `log.fields` of registry:2."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        shown = "".join(f" {name}={value}".replace("%", "%%") for name, value in fields.items())
        super().__init__(f"%(asctime)s %(levelname)s %(name)s: %(message)s{shown}")


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
        return json.dumps(self._fields | line, default=str)
