"""What can be asked for on the command line."""

import argparse
import os
import sys
from pathlib import Path

from rows import chosen
from servers import Contender, contender, debian
from source import LEAST, MIB, Amounts

_PEER = (
    "one more peer: the URL of one that runs, or a command with {port} and {root}, "
    "or with {config}, the path of a file as registry:2 and registry:3 read it (needed for TLS and htpasswd)"
)
_OURS = Path(sys.executable).with_name("registry")


def parse(arguments: list[str], description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench BENCH=...", description=description)
    add = parser.add_argument
    add("--rows", default="", metavar="PATTERNS", help="only these rows: push-*,catalog-*")
    add("--list", action="store_true", help="show the rows and end")
    add("--rounds", type=int, help="how often each row is run on each server (3)")
    add("--size", type=int, help="bytes of the large blob (1 GiB)")
    add("--scale", type=float, help="factor on all counts: repositories, tags, layers, connections ... (1)")
    add("--seconds", type=float, help="how long requests are sent for each row of rates (3)")
    add("--quick", action="store_true", help="one round, 128 MiB, a tenth of the counts, one second")
    add(
        "--ours",
        metavar="COMMAND",
        help="another program of ours than this checkout's; it is told by REGISTRY_* variables",
    )
    add(
        "--ours-too",
        metavar="NAME=COMMAND",
        action="append",
        default=[],
        help="one more of ours, told by REGISTRY_* too, compared as a peer",
    )
    add("--peer", metavar="NAME=URL|COMMAND", action="append", default=[], help=_PEER)
    add("--no-debian", action="store_true", help="leave out Debian's docker-registry")
    add("--root", type=Path, default=Path("/dev/shm"), help="a directory in memory (/dev/shm)")
    add("--disk", type=Path, help="a directory on a disk: all rows there too")
    add("--pin", action="store_true", help="servers on one core, the client on another")
    add("--limit", type=float, default=180.0, help="seconds after which a row has failed (180)")
    add("--no-ceiling", action="store_true", help="do not measure what the client alone reaches")
    add("--json", type=Path, help="write all that was measured to this file")
    add("--chart", type=Path, help="draw the ratios into this SVG file")
    options = parser.parse_args(arguments)
    try:
        return _completed(options)
    except ValueError as error:
        parser.error(str(error))


def _completed(options: argparse.Namespace) -> argparse.Namespace:
    """Raises ValueError for what cannot be meant."""
    quick = options.quick
    options.rows = chosen(options.rows)
    options.rounds = options.rounds or (1 if quick else 3)
    scale = options.scale or (0.1 if quick else 1.0)
    large = options.size or (128 if quick else 1024) * MIB
    if large < LEAST:
        raise ValueError(f"--size: at least {LEAST}")
    options.amounts = Amounts(large, seconds=options.seconds or (1.0 if quick else 3.0)).scaled(scale)
    options.cores = sorted(os.sched_getaffinity(0))[:2]
    if options.pin and len(options.cores) < 2:
        raise ValueError("--pin: there is one core only")
    options.contenders = _contenders(options)
    return options


def _contenders(options: argparse.Namespace) -> list[Contender]:
    found = [Contender("ours", command=options.ours or f"{_OURS} serve", is_ours=True)]
    for text in options.ours_too:
        name, _, command = text.partition("=")
        if not command:
            raise ValueError(f"{text!r}: expected NAME=COMMAND")
        found.append(Contender(name, command=command, is_ours=True))
    peer = None if options.no_debian else debian()
    found += [peer] if peer else []
    found += [contender(text) for text in options.peer]
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        raise ValueError(f"two servers have the same name: {', '.join(names)}")
    return found
