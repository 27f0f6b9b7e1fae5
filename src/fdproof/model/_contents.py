"""Bytes of a file in memory, with holes: what was never written takes no room."""

import errno

from fdproof.model._failure import failure

__all__ = ["LARGEST", "Contents"]

LARGEST = 2**63 - 1
"""The highest offset of a file in memory."""

_PAGE = 4096


class Contents:
    """The bytes of a file, in pages."""

    def __init__(self) -> None:
        self.size = 0
        self._pages: dict[int, bytearray] = {}

    def read(self, offset: int, count: int) -> bytes:
        """Return the bytes from an offset, fewer at the end."""
        count = min(count, self.size - offset)
        if count <= 0:
            return b""
        pieces = []
        while count:
            page, inside = divmod(offset, _PAGE)
            length = min(count, _PAGE - inside)
            stored = self._pages.get(page)
            pieces.append(bytes(stored[inside : inside + length]) if stored else bytes(length))
            offset += length
            count -= length
        return b"".join(pieces)

    def write(self, offset: int, data: bytes) -> int:
        """Put bytes at an offset, and return how many fit.

        Raises:
            OSError: EFBIG, none does.
        """
        if data and offset >= LARGEST:
            raise failure(errno.EFBIG)
        data = data[: LARGEST - offset]
        done = 0
        while done < len(data):
            page, inside = divmod(offset + done, _PAGE)
            piece = data[done : done + _PAGE - inside]
            stored = self._pages.setdefault(page, bytearray(_PAGE))
            stored[inside : inside + len(piece)] = piece
            done += len(piece)
        if data:
            self.size = max(self.size, offset + len(data))
        return len(data)

    def clear(self) -> None:
        """Drop everything."""
        self._pages.clear()
        self.size = 0

    def find(self, offset: int, *, data: bool) -> int:
        """Return the next offset with data, or the next in a hole; the end counts as a hole.

        Raises:
            OSError: ENXIO, the offset is beyond the end, or no data follows.
        """
        if not 0 <= offset < self.size:
            raise failure(errno.ENXIO)
        page = offset // _PAGE
        if (page in self._pages) is data:
            return offset
        if data:
            later = [found for found in self._pages if found > page]
            if not later:
                raise failure(errno.ENXIO)
            return min(later) * _PAGE
        while page in self._pages:
            page += 1
        return min(page * _PAGE, self.size)
