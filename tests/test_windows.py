from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mihc.windows import Window, whole, windows


def test_two_by_two_windows_by_hand():
    # 5 x 6 pixels, side 4, halo 1
    assert windows((5, 6), 4, 1) == [
        Window(0, 4, 0, 4, 0, 5, 0, 5),
        Window(0, 4, 4, 6, 0, 5, 3, 6),
        Window(4, 5, 0, 4, 3, 5, 0, 5),
        Window(4, 5, 4, 6, 3, 5, 3, 6),
    ]


@given(height=st.integers(0, 60), width=st.integers(0, 60), side=st.integers(1, 70), halo=st.integers(0, 20))
def test_every_pixel_has_exactly_one_owner(height, width, side, halo):
    owners = np.zeros((height, width), int)
    for window in windows((height, width), side, halo):
        owners[window.core] += 1
    assert (owners == 1).all()


@given(height=st.integers(1, 60), width=st.integers(1, 60), side=st.integers(1, 70), halo=st.integers(0, 20))
def test_the_padded_box_is_the_core_and_its_halo_cut_to_the_image(height, width, side, halo):
    image = np.arange(height * width).reshape(height, width)
    for window in windows((height, width), side, halo):
        block = image[window.padded]
        assert block.shape == window.padded_shape
        assert (block[window.core_in_padded] == image[window.core]).all()
        assert window.py0 == max(0, window.y0 - halo) and window.px1 == min(width, window.x1 + halo)
        assert window.y0 % side == 0 and window.x0 % side == 0


def test_an_image_without_pixels_has_no_window():
    assert windows((0, 10), 4, 1) == []


def test_the_whole_image_is_one_window():
    assert [whole((7, 9))] == windows((7, 9), 9, 3)


@pytest.mark.parametrize(("side", "halo"), [(0, 1), (-1, 0), (4, -1)])
def test_a_side_below_one_or_a_negative_halo_is_refused(side, halo):
    with pytest.raises(ValueError, match="side >= 1"):
        windows((5, 5), side, halo)
