"""The name of a nucleus: 1 + the index of the small block of pixels that holds its seed, on the slide."""

from __future__ import annotations

import numpy as np

from mihc.errors import InputError

BLOCK = 2  # side of the blocks that can hold only one seed


def nucleus_ids(seeds: np.ndarray, shape_yx: tuple[int, int], *, origin_yx: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Ids (uint32) of seeds (n, 2), pixels from `origin_yx`, on a slide of `shape_yx`: 1 + the index of their block."""
    columns = -(-shape_yx[1] // BLOCK)
    if -(-shape_yx[0] // BLOCK) * columns >= 2**32 - 1:
        raise InputError(
            f"a slide of {shape_yx[0]} x {shape_yx[1]} pixels is too large for ids of 32 bits",
            fix="Segment it by scenes.",
        )
    y, x = seeds[:, 0] + origin_yx[0], seeds[:, 1] + origin_yx[1]
    return (1 + (y // BLOCK) * columns + x // BLOCK).astype(np.uint32)


def block_of_id(ids: np.ndarray, shape_yx: tuple[int, int]) -> np.ndarray:
    """First pixel (n, 2: y, x) of the block that holds the seed of each id; the reverse of `nucleus_ids`."""
    index = np.asarray(ids).astype(np.int64) - 1
    columns = -(-shape_yx[1] // BLOCK)
    return np.stack([index // columns, index % columns], axis=-1) * BLOCK
