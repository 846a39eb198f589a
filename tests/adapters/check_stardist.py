"""The StarDist adapter on a folder that StarDist itself saved: random features, the last layer fitted in a second."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from mihc.errors import InputError
from mihc.nuclei import segment_nuclei
from mihc.segmenters import open_segmenter

UM = 0.5


@pytest.fixture(scope="module")
def weights(picture, tmp_path_factory):
    """A model's folder as StarDist saves it."""
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)  # as the adapter does where it comes first
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from stardist.geometry import star_dist
    from stardist.models import Config2D, StarDist2D

    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    config = Config2D(
        n_rays=16, grid=(2, 2), n_channel_in=1, unet_n_depth=2, unet_n_filter_base=8, net_conv_after_unet=32
    )
    model = StarDist2D(config, name="small", basedir=str(folder))
    image, truth = (array[:256, :256] for array in picture)
    net = model.keras_model
    heads = [net.get_layer(name) for name in ("prob", "dist")]
    features = keras.Model(net.input, heads[0].input)(((image.astype(np.float32) - 110) / 1000)[None, ..., None])
    features = np.asarray(features)[0]
    every = np.concatenate([features, np.ones_like(features[..., :1])], axis=-1).reshape(-1, features.shape[-1] + 1)
    middle = ndimage.distance_transform_edt(truth > 0)[::2, ::2].reshape(-1, 1)
    rays = star_dist(truth.astype(np.int32), n_rays=16, mode="cpp")[::2, ::2].reshape(-1, 16)
    _fit(heads[0], every, 2 * middle - 5, slice(None))
    _fit(heads[1], every, rays, middle[:, 0] > 2)
    net.save_weights(str(folder / "small" / "weights_best.h5"))
    (folder / "small" / "thresholds.json").write_text(json.dumps({"prob": 0.5, "nms": 0.4}))
    return folder / "small"


def _fit(layer, features, wanted, where):
    """The last layer by least squares."""
    found, *_ = np.linalg.lstsq(features[where], wanted[where], rcond=1e-4)
    kernel, bias = layer.get_weights()
    layer.set_weights([found[:-1].reshape(kernel.shape).astype("f4"), found[-1].reshape(bias.shape).astype("f4")])


def test_the_folder_is_loaded_with_its_thresholds_and_finds_the_drawn_nuclei(weights, picture, found_where_drawn):
    segmenter = open_segmenter("stardist", weights=weights)
    assert (segmenter.model.thresholds.prob, segmenter.model.thresholds.nms) == (0.5, 0.4)
    labels = segment_nuclei(picture[0], pixel_size_um=UM, method=segmenter)
    nuclei, glass = found_where_drawn(labels, picture[1])
    assert nuclei > 0.85 and glass < 0.25
    assert 0.7 < (len(np.unique(labels)) - 1) / picture[1].max() < 1.3


def test_a_slide_twice_as_fine_gives_the_same_nuclei(weights, picture, found_where_drawn):
    image, truth = (np.repeat(np.repeat(array, 2, axis=0), 2, axis=1) for array in picture)
    labels = segment_nuclei(image, pixel_size_um=UM / 2, method=open_segmenter("stardist", weights=weights))
    nuclei, glass = found_where_drawn(labels, truth)
    assert labels.shape == image.shape and nuclei > 0.85 and glass < 0.25


def test_a_higher_sensitivity_finds_no_fewer(weights, picture):
    counts = [
        len(
            np.unique(
                segment_nuclei(
                    picture[0], pixel_size_um=UM, method=open_segmenter("stardist", weights=weights, sensitivity=word)
                )
            )
        )
        for word in ("low", "normal", "high")
    ]
    assert counts == sorted(counts) and counts[0] < counts[2]


def test_NP6_workers_order_and_loading_again_change_nothing(weights, picture, on_the_grid):
    image = np.tile(picture[0], (2, 2))
    expected = on_the_grid(image, open_segmenter("stardist", weights=weights), UM)
    assert len(np.unique(expected)) > 500
    again = open_segmenter("stardist", weights=weights)
    assert (on_the_grid(image, again, UM, workers=4, backwards=True) == expected).all()
    assert (segment_nuclei(image, pixel_size_um=UM, method=again) == expected).all()


def test_what_is_no_model_is_refused(tmp_path, weights):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no config\.json"):
        open_segmenter("stardist", weights=tmp_path / "empty")
    with pytest.raises(InputError, match="needs weights"):
        open_segmenter("stardist")
    for name in ("config.json", "weights_best.h5"):
        (tmp_path / "empty" / name).write_text("{}")
    with pytest.raises(InputError, match="cannot be read as a 2D model of StarDist"):
        open_segmenter("stardist", weights=tmp_path / "empty")
