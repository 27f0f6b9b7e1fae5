"""Users and groups by name or number."""

import grp
import os
import pwd
from collections.abc import Iterable

__all__ = ["Identity", "identity_of"]

# User, group, extra groups; -1 and None leave them as they are.
Identity = tuple[int, int, list[int] | None]


def identity_of(
    user: str | int | None, group: str | int | None, extra_groups: Iterable[str | int] | None
) -> Identity:
    """Look up what a child should run as.

    A user brings its group and its extra groups along, unless they are given: a program that changed
    its user and kept its groups would keep their rights.

    Raises:
        ValueError: no such user or group; a number without an entry whose group is not given.
    """
    group_id = -1 if group is None else _group(group, "group")
    groups = None if extra_groups is None else [_group(one, "extra_groups") for one in extra_groups]
    if user is None:
        return -1, group_id, groups
    try:
        entry = pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        if not isinstance(user, int) or user < 0:
            raise ValueError(f"user: there is no user {user!r}") from None
        if group is None:
            raise ValueError(
                f"user: {user} has no entry that names its group: give group= (and extra_groups=) as well"
            ) from None
        return user, group_id, [] if groups is None else groups
    if groups is None and entry.pw_uid != os.geteuid():
        primary = entry.pw_gid if group is None else group_id
        groups = os.getgrouplist(entry.pw_name, primary)
    return entry.pw_uid, entry.pw_gid if group is None else group_id, groups


def _group(group: str | int, name: str) -> int:
    if isinstance(group, int):
        if isinstance(group, bool) or not 0 <= group < 2**32 - 1:
            raise ValueError(f"{name}: {group!r} is not a group number")
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ValueError(f"{name}: there is no group {group!r}") from None
