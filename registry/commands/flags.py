"""Flags as Go programs take them: `--delete-untagged=true`, as many a cron job says to registry:2."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

_YES, _NO = frozenset({"1", "t", "true"}), frozenset({"0", "f", "false"})


class GoFlags(TyperCommand):
    """A command whose flags may have a value, behind an equals sign."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [plain for given in args for plain in self._plain(given)])

    def _plain(self, given: str) -> list[str]:
        name, equals, value = given.partition("=")
        flags = {option for each in self.params if getattr(each, "is_flag", False) for option in each.opts}
        if not equals or name not in flags:
            return [given]
        if value.lower() in _NO:
            return []
        return [name] if value.lower() in _YES else [given]
