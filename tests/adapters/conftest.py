"""What the tests of adapters share. They run in an environment of their own; see ../test_adapters.py."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]  # mihc, and the tests' drawings
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")


def _no_network(event, _arguments):
    """Heard by the interpreter itself, whichever library asks: nothing is downloaded, nothing is told to anybody."""
    if event in FORBIDDEN:
        raise RuntimeError(f"an adapter reached for the network: {event}")


sys.addaudithook(_no_network)


@pytest.fixture(scope="session")
def picture():
    """(y, x) counts of drawn nuclei 8 µm wide at 0.5 µm per pixel, and their labels."""
    from drawn_nuclei import draw

    image, truth = draw((300, 420), seed=1, spacing=24.0)
    return image[0], truth


@pytest.fixture(scope="session")
def on_the_grid():
    """Labels of an image from the tiles of a segmenter's grid, asked in some order by some workers."""
    from mihc.nuclei import slide_reference
    from mihc.nuclei_grid import Canvas, Grid, objects_of_tile

    def painted(image, segmenter, pixel_size_um, workers=1, backwards=False):
        light = slide_reference(image, pixel_size_um=pixel_size_um)
        grid = Grid.of(image.shape, (pixel_size_um, pixel_size_um), segmenter)
        tiles = [tile for row in range(grid.rows) for tile in grid.tiles(row)]
        asked = tiles[::-1] if backwards else tiles
        with ThreadPoolExecutor(workers) as pool:
            found = dict(
                zip(asked, pool.map(lambda tile: objects_of_tile([image], [light], grid, tile, segmenter), asked))
            )
        canvas = Canvas(grid)
        for row in range(grid.rows):
            canvas.add_row([found[tile] for tile in grid.tiles(row)])
        return canvas.labels

    return painted


@pytest.fixture(scope="session")
def found_where_drawn():
    """Share of the drawn nuclei whose middle pixel is in some nucleus, and share of the glass that is in one."""

    def shares(labels, truth):
        from scipy import ndimage

        middles = np.rint(ndimage.center_of_mass(truth > 0, truth, range(1, truth.max() + 1))).astype(int)
        return (labels[tuple(middles.T)] > 0).mean(), (labels[truth == 0] > 0).mean()

    return shares
