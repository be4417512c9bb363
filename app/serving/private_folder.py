"""Folders that only this user may enter: others of the host know their names and could have made them first."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def make_private(folder: Path) -> bool:
    """Makes a folder that only this user may enter; false where somebody else's, or a link, is in its place."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    places = [folder.lstat(), folder.parent.lstat()]
    return all(_is_own(place) for place in places) and places[0].st_mode & 0o077 == 0


def close_to_others(folder: Path) -> bool:
    """`make_private` where somebody who knows nothing of it, such as Ray, has made the folder and the one above it.

    They are closed now, unless everybody could write there meanwhile: then what lies there may be anybody's.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for place in (folder.parent, folder):
        found = place.lstat()
        if not _is_own(found) or found.st_mode & stat.S_IWOTH:
            return False
        place.chmod(0o700)
    return make_private(folder)


def _is_own(place: os.stat_result) -> bool:
    return stat.S_ISDIR(place.st_mode) and place.st_uid == os.getuid()
