"""The loops below the segmenter held against plain definitions: pieces of a mask, the tree of level sets, memory."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from mihc.kernels import LARGE, copied, room
from mihc.nuclei_masks import places_by_piece
from mihc.nuclei_tree import level_set_tree

CORNERS = np.ones((3, 3))  # 8 neighbours
PICTURES = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 4))
)


@settings(max_examples=200, deadline=None)
@given(PICTURES)
def test_the_pixels_of_each_piece_come_together_row_by_row(picture):
    places, starts = places_by_piece(picture > 1)
    pieces, count = ndimage.label(picture > 1, CORNERS)
    assert len(starts) == count + 1
    assert starts[-1] == len(places) == (picture > 1).sum()
    for k in range(count):
        mine = places[starts[k] : starts[k + 1]]
        assert list(mine) == list(np.flatnonzero(pieces.ravel() == pieces.ravel()[mine[0]]))


@settings(max_examples=200, deadline=None)
@given(PICTURES)
def test_the_tree_holds_every_piece_of_every_threshold_once(picture):
    """Of each node: its pixels and those of the nodes below it are one 8-connected piece of a threshold."""
    places, nodes, parent, level, box, sums = level_set_tree(picture)
    assert sorted(places) == list(np.flatnonzero(picture))
    assert np.all(level[nodes] == picture.ravel()[places])
    expected = set()
    for threshold in range(1, int(picture.max(initial=0)) + 1):
        pieces, count = ndimage.label(picture >= threshold, CORNERS)
        for piece in range(1, count + 1):
            at = np.flatnonzero(pieces == piece)
            expected.add(
                (int(picture.ravel()[at].min()), tuple(at))
            )  # where no pixel has the threshold, the same piece
    below = [set(places[nodes == node]) for node in range(len(parent))]
    for node, above in enumerate(parent):  # children come before their parents
        assert above >= node
        if above != node:
            below[above] |= below[node]
    assert {(int(level[node]), tuple(sorted(mine))) for node, mine in enumerate(below)} == expected
    assert len(below) == len(expected)
    for node, mine in enumerate(below):
        y, x = np.divmod(np.array(sorted(mine)), picture.shape[1])
        assert list(box[node]) == [y.min(), y.max(), x.min(), x.max()]
        assert list(sums[node]) == [len(y), y.sum(), x.sum(), (y * y).sum(), (y * x).sum(), (x * x).sum()]


def test_room_is_an_array_like_any_other_whatever_its_size():
    for side in (0, 3, 1100):  # 1100 x 1100 of 4 bytes is large
        picture = room((side, side + 1), np.int32)
        assert (picture.shape, picture.dtype) == ((side, side + 1), np.int32)
        picture[...] = np.arange(picture.size).reshape(picture.shape)
        again = copied(picture)
        assert np.array_equal(again, picture)
        again[...] = 0
        assert picture.sum() == picture.size * (picture.size - 1) // 2
    assert picture.nbytes > LARGE
