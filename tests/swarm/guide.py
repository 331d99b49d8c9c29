"""docs/swarm.md as a list of commands: those that it does not mark as not run must be run, to the letter."""

import re
from pathlib import Path

from nodes import MANAGER, Swarm

PAGE = Path(__file__).parent.parent.parent / "docs" / "swarm.md"
CLONE = "/root/swarm-registry"
"""Where the nodes have the clone that the guide is read in."""


class Guide:
    """The commands of the guide, on nodes."""

    def __init__(self) -> None:
        blocks = re.findall(r"^(<!-- not run -->\n)?```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        self._commands = [line for mark, body in blocks if not mark for line in body.splitlines()]
        self._done: set[str] = set()

    def run(self, swarm: Swarm, node: str, *lines: str, seconds: float = 60) -> str:
        """Run lines of the guide, on a manager in the folder of the clone. They must end well. Returns their output."""
        where = f"cd {CLONE} && " if node == MANAGER else ""
        return swarm.run(node, where + self.told(*lines), seconds=seconds)

    def told(self, *lines: str) -> str:
        """Lines of the guide as one for a shell; who asks for it runs it."""
        for line in lines:
            assert line in self._commands, f"docs/swarm.md does not say, or marks as not run: {line}"
            self._done.add(line)
        return " && ".join(lines)

    def left(self) -> list[str]:
        """What the guide says is run, and was not."""
        return [line for line in self._commands if line not in self._done]
