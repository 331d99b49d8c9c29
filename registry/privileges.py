"""Giving up root. A container begins as root only to see to whom its volume belongs.

registry:2 runs as root, so what it leaves belongs to root. A fresh volume belongs to the image's own user. What is
there is never given to another user: that takes long, and is the administrator's to decide.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def give_up_root(root: Path, user: int) -> str:
    """If this is root, become the owner of the storage, or `user` where the storage is empty.

    Args:
        root: directory of the storage; made, and given to `user`, where it is missing or empty.
        user: uid, and gid, of the image's own user.

    Returns:
        What to tell the log; empty where there was nothing to decide.

    Raises:
        OSError: the directory cannot be made or given.
    """
    if os.geteuid() != 0:
        return ""
    root.mkdir(parents=True, exist_ok=True)
    if all(entry.name == "lost+found" for entry in root.iterdir()):  # a fresh filesystem is empty, too
        os.chown(root, user, user)
    owner = root.stat()
    if owner.st_uid == 0:
        return (
            f"{root} belongs to root, as registry:2 leaves it: serving as root. "
            f"To serve as another user, stop the registry, and run: chown -R {user}:{user} {root}"
        )
    os.setgroups([])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    return f"gave up root: serving as the owner of {root}, uid {owner.st_uid}"
