"""Memory that is given back: large arrays that are freed leave the process at once."""

from __future__ import annotations

import ctypes
import sys

LARGE = 8 << 20  # bytes
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h


def give_back_large_arrays() -> None:
    """Have every array of LARGE bytes or more in memory of its own, which goes back to the system when it is freed.

    glibc raises that bound by itself as a program goes on, and then keeps the holes between the arrays of several
    threads: half as much again as is in use, and more with every window. Other systems have nothing to be told.
    """
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE)
    except (OSError, AttributeError):
        return  # another C library than glibc


def give_back_freed_memory() -> None:
    """Return to the system what was freed and glibc still holds; for the end of a stage, when little is in use."""
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return  # another C library than glibc
