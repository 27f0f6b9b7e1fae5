"""The datagrams between a service and its manager: where they go, and what they may say.

Assignments, one a line, as sd_notify(3) describes them.
"""

import re
from collections.abc import Mapping

__all__ = [
    "BARRIER",
    "LONGEST",
    "MOST_FILES",
    "NAMELESS",
    "RESTORE",
    "address_from",
    "checked_name",
    "decoded",
    "encoded",
    "invalid_name",
]

# The longest that systemd reads. It drops what is longer.
LONGEST = 4096
# The most descriptors that one message carries.
MOST_FILES = 253
# The name of what is stored without one, as systemd calls it.
NAMELESS = "stored"

BARRIER = "BARRIER"
# Not of systemd: asks a store of fdproof for what it keeps, over the socket that comes with it.
RESTORE = "FDPROOF_RESTORE"

_FIELD = re.compile(r"[A-Z][A-Z0-9_]*")
_NAME = re.compile(r"[ -9;-~]{0,255}")


def address_from(text: str) -> str | bytes:
    """Return the address that NOTIFY_SOCKET means: a path, or an abstract name that begins with NUL.

    Raises:
        ValueError: it is neither.
    """
    if text.startswith("/"):
        return text
    if text.startswith("@") and len(text) > 1:
        return b"\0" + text[1:].encode("utf-8", "surrogateescape")
    if text.startswith("vsock"):
        raise ValueError(
            f"NOTIFY_SOCKET: {text!r} leads out of this virtual machine, which no descriptor does and "
            "fdproof does not speak: give the path of a Unix socket"
        )
    raise ValueError(
        f"NOTIFY_SOCKET: {text!r} is neither an absolute path nor an abstract name (@name)"
    )


def encoded(fields: Mapping[str, str]) -> bytes:
    """Return the datagram that says all of ``fields``.

    Raises:
        ValueError: one of them cannot be said; the message begins with its name.
    """
    if not fields:
        raise ValueError("fields: there is nothing to say")
    for name, value in fields.items():
        if not _FIELD.fullmatch(name):
            raise ValueError(
                f"fields: {name!r} is not the name of a field, which has capitals, digits and underscores"
            )
        if "\n" in value or "\0" in value:
            raise ValueError(
                f"{name}: {value!r} contains a newline or a NUL, which would end it there and begin another "
                "field: write it on one line"
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name}: {value!r} is not text in UTF-8") from None
    data = "\n".join(f"{name}={value}" for name, value in fields.items()).encode()
    if len(data) > LONGEST:
        raise ValueError(
            f"{'/'.join(fields)}: {len(data)} bytes are more than the {LONGEST} that a service manager reads"
        )
    return data


def decoded(data: bytes) -> dict[str, str]:
    """Return the fields of a datagram; of a field that comes twice, the last.

    Raises:
        ValueError: it is no text, or no assignment.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError("the message is no UTF-8") from None
    # Some senders end the last line, or the text as C does.
    text = text.rstrip("\n\0")
    if "\0" in text:
        raise ValueError("the message contains a NUL")
    fields = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if not equals:
            raise ValueError(f"the message has a line without an equals sign: {line[:60]!r}")
        fields[name] = value
    return fields


def invalid_name(name: str) -> str | None:
    """Say what is wrong with the name of a stored descriptor; None if nothing is."""
    if _NAME.fullmatch(name):
        return None
    if len(name) > 255:
        return f"a name of {len(name)} characters is longer than 255"
    return f"{name!r} has characters other than printable ASCII without the colon"


def checked_name(name: str) -> str:
    """Return a name that a descriptor can be stored under.

    Raises:
        ValueError: it is none.
    """
    if wrong := invalid_name(name) or (None if name else "it is empty"):
        raise ValueError(f"name: {wrong}")
    return name
