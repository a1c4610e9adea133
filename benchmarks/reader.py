"""The reading half of the load generator, in C (reader.c), compiled on the fly.

In Python a read cost three times what the kernel took for it, so that the load generator was the
limit of what the fastest peers could show.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from functools import cache
from pathlib import Path

from .peers.base import CACHE, install, tool

_SOURCE = Path(__file__).with_name("reader.c")
_MOST = 1024
"""Sockets of one read, as in reader.c."""


_SIGNATURES = (
    ("reader_new", ctypes.c_int, ctypes.c_char_p, ctypes.c_int),
    ("reader_free", ctypes.c_void_p),
    ("reader_add", ctypes.c_void_p, ctypes.c_int, ctypes.c_int),
    ("reader_events", ctypes.c_void_p, ctypes.c_int),
    ("reader_forget", ctypes.c_void_p, ctypes.c_int),
    ("reader_feed", ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int),
    ("reader_read_one", ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p),
    ("reader_read", ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p),
)
"""Each function with its arguments."""


class Found(ctypes.Structure):
    """What one read found.

    Attributes:
        events: those counted.
    """

    _fields_ = (
        ("events", ctypes.c_long),
        ("_came", ctypes.c_int),
        ("_closed", ctypes.c_int),
        ("_sampled", ctypes.c_int),
        ("_came_to", ctypes.c_int * _MOST),
        ("_closed_by", ctypes.c_int * _MOST),
        ("_ages", ctypes.c_double * _MOST),
    )

    @property
    def came_to(self) -> list[int]:
        """Return the descriptors that an event came to."""
        return self._came_to[: self._came]

    @property
    def closed_by(self) -> list[int]:
        """Return the descriptors that the peer closed."""
        return self._closed_by[: self._closed]

    @property
    def ages(self) -> list[float]:
        """Return how old the sampled events were, in seconds."""
        return self._ages[: self._sampled]


class Reader:
    """Reads all sockets of an epoll.

    Args:
        epoll: its descriptor.
        marker: what every event holds exactly once, 63 bytes at most.

    Raises:
        Missing: without a C compiler.
    """

    def __init__(self, epoll: int, marker: bytes) -> None:
        self._library = compiled()
        self._reader = self._library.reader_new(epoll, marker, len(marker))
        if not self._reader:
            raise ValueError(f"the marker {marker!r} is too long")
        self._found = Found()

    def add(self, descriptor: int, *, sampled: bool) -> None:
        """Know a socket, anew where another one had its descriptor."""
        if self._library.reader_add(self._reader, descriptor, sampled):
            raise MemoryError

    def events(self, descriptor: int) -> int:
        """Return how many events came to a socket."""
        return int(self._library.reader_events(self._reader, descriptor))

    def forget(self, descriptor: int) -> None:
        """Count the events of a socket anew."""
        self._library.reader_forget(self._reader, descriptor)

    def feed(self, descriptor: int, data: bytes) -> int:
        """Count the events in what was read of a socket elsewhere."""
        return int(self._library.reader_feed(self._reader, descriptor, data, len(data)))

    def read_one(self, descriptor: int) -> Found:
        """Read once from a socket that is ready; what is returned is good until the next read."""
        self._library.reader_read_one(self._reader, descriptor, ctypes.byref(self._found))
        return self._found

    def read(self, timeout: float) -> Found | None:
        """Read once from each socket that is ready, waiting for the first one.

        Args:
            timeout: in seconds.

        Returns:
            What was found, good until the next read; None when nothing came in time.
        """
        ready = self._library.reader_read(
            self._reader, int(timeout * 1000), ctypes.byref(self._found)
        )
        if ready < 0:
            raise OSError(-ready, os.strerror(-ready))
        return self._found if ready else None

    def close(self) -> None:
        """Give its memory back."""
        self._library.reader_free(self._reader)


@cache
def compiled() -> ctypes.CDLL:
    """Return the compiled reader, compiling it where that has not been done.

    Raises:
        Missing: without a C compiler.
    """
    name = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    path = CACHE / f"reader-{name}.so"
    if not path.exists():
        # Under a name of its own until it is whole: another run may look for it meanwhile.
        made = path.with_suffix(f".{os.getpid()}")
        gcc = [tool("gcc"), "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
        install([*gcc, "-o", str(made), str(_SOURCE)], CACHE)
        made.replace(path)
    library = ctypes.CDLL(str(path))
    library.reader_new.restype = ctypes.c_void_p
    library.reader_events.restype = library.reader_feed.restype = ctypes.c_long
    for name, *arguments in _SIGNATURES:
        getattr(library, name).argtypes = arguments
    return library
