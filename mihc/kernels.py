"""How compiled loops are declared: without the interpreter lock, cached on disk where that is possible.

Only modules of loops import this one, and they are imported only where they are used, because numba takes a second.
No loop uses fastmath or prange: each pixel's operations have one order, wherever a window lies.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import njit


def compiled(function: Callable) -> Callable:
    """`function` compiled by numba on first use; cached beside the source, or in the user's cache, or not at all."""
    try:
        return njit(function, nogil=True, cache=True)
    except RuntimeError:  # numba finds no writable place for its cache
        return njit(function, nogil=True)
