"""How compiled loops are declared: without the interpreter lock, cached on disk where that is possible.

Only modules of loops import this one, and they are imported only where they are used, because numba takes a second.
No loop uses fastmath or prange: each pixel's operations have one order, wherever a window lies.

Pictures come from `room`. Linux hands out memory in pages of 4 KB as they are first touched, which took a third of the
time of finding nuclei; asked for pages of 2 MB, as numpy asks for its own arrays, it takes a tenth of that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numba import njit, types


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


LARGE = 4 << 20  # bytes, from which numpy asks for large pages too
_PAGE, _HUGEPAGE = 4096, 14  # bytes, and MADV_HUGEPAGE of Linux

if sys.platform == "linux":
    _madvise = types.ExternalFunction("madvise", types.intc(types.uintp, types.uintp, types.intc))

    @compiled
    def room(shape: tuple[int, ...] | int, dtype: type) -> np.ndarray:
        """An array as of np.empty, in large pages of memory where it is large."""
        out = np.empty(shape, dtype)
        size = out.size * out.itemsize
        if size >= LARGE:
            start = np.uintp(out.ctypes.data)
            whole = (start + np.uintp(_PAGE - 1)) // np.uintp(_PAGE) * np.uintp(_PAGE)
            _madvise(whole, start + np.uintp(size) - whole, np.int32(_HUGEPAGE))  # advice: it may be refused
        return out

else:

    @compiled
    def room(shape: tuple[int, ...] | int, dtype: type) -> np.ndarray:
        """An array as of np.empty."""
        return np.empty(shape, dtype)


@compiled
def copied(array: np.ndarray) -> np.ndarray:
    """A copy in `room`."""
    out = room(array.shape, array.dtype)
    out[...] = array
    return out
