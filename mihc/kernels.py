"""How compiled loops are declared: without the interpreter lock, cached on disk where that is possible.

Only modules of loops import this one, and they are imported only where they are used, because numba takes a second.
No loop uses fastmath or prange: each pixel's operations have one order, wherever a window lies.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import njit


def compiled(function: Callable) -> Callable:
    """`function` compiled by numba on first use; cached beside the source, or in the user's cache, or not at all."""
    return _compiled(function, error_model="python")


def compiled_unchecked(function: Callable) -> Callable:
    """As `compiled`, for a loop that never divides by 0: the check for it keeps vector instructions away."""
    return _compiled(function, error_model="numpy")


def _compiled(function: Callable, error_model: str) -> Callable:
    try:
        return njit(function, nogil=True, cache=True, error_model=error_model)
    except RuntimeError:  # numba finds no writable place for its cache
        return njit(function, nogil=True, error_model=error_model)
