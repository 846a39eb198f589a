"""The Cellpose adapter on a file that Cellpose itself saved: random features, the last layer fitted in a second."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mihc.errors import InputError
from mihc.nuclei import segment_nuclei
from mihc.segmenters import open_segmenter

UM = 0.5
DIAMETER_PX = 16.0


@pytest.fixture(scope="module")
def weights(picture, tmp_path_factory):
    """A network of Cellpose 3's size for nuclei 16 pixels wide: flows and probability read from its random features."""
    from cellpose.dynamics import labels_to_flows
    from cellpose.resnet_torch import CPnet

    torch.manual_seed(0)
    net = CPnet([2, 32, 64, 128, 256], 3, sz=3, max_pool=True, diam_mean=DIAMETER_PX).eval()
    image, truth = (array[:224, :224] for array in picture)
    given = torch.from_numpy(((image.astype(np.float32) - 110) / 1000)[None, None])
    features = []
    net.output[1].register_forward_hook(lambda _module, _given, made: features.append(made))
    with torch.inference_mode():
        net(torch.cat([given, 0 * given], dim=1))
    x = features[0][0].flatten(1).T.double().numpy()
    flows = labels_to_flows([truth.astype(np.int32)], device=torch.device("cpu"))[0]
    wanted = np.stack([5 * flows[2], 5 * flows[3], 12 * (truth > 0) - 6.0]).reshape(3, -1).T
    x, inside = np.column_stack([x, np.ones(len(x))]), truth.ravel() > 0  # flows count inside nuclei only
    fits = [
        np.linalg.lstsq(x[at], wanted[at, k], rcond=1e-9)[0] for k, at in ((0, inside), (1, inside), (2, inside | True))
    ]
    found = np.stack(fits, axis=1)
    with torch.no_grad():
        net.output[2].weight[:] = torch.from_numpy(found[:-1].T[:, :, None, None]).float()
        net.output[2].bias[:] = torch.from_numpy(found[-1]).float()
    file = tmp_path_factory.mktemp("weights") / "small"
    net.save_model(str(file))
    return file


@pytest.fixture(scope="module")
def opened(weights):
    return open_segmenter("cellpose", weights=weights)


def test_the_model_is_loaded_with_its_diameter_and_finds_the_drawn_nuclei(opened, picture, found_where_drawn):
    assert opened.pixel_size_um == 8.0 / DIAMETER_PX and opened.overlap_px == 36
    labels = segment_nuclei(picture[0], pixel_size_um=UM, method=opened)
    nuclei, glass = found_where_drawn(labels, picture[1])
    assert nuclei > 0.6 and glass < 0.25
    assert 0.5 < (len(np.unique(labels)) - 1) / picture[1].max() < 1.4


def test_the_diameter_that_is_given_scales_the_pictures(weights):
    assert open_segmenter("cellpose", weights=weights, nucleus_diameter_um=12.0).pixel_size_um == 12.0 / DIAMETER_PX


def test_a_slide_twice_as_fine_gives_the_same_nuclei(opened, picture, found_where_drawn):
    image, truth = (np.repeat(np.repeat(array, 2, axis=0), 2, axis=1) for array in picture)
    labels = segment_nuclei(image, pixel_size_um=UM / 2, method=opened)
    nuclei, glass = found_where_drawn(labels, truth)
    assert labels.shape == image.shape and nuclei > 0.7 and glass < 0.3


def test_NP6_workers_order_and_loading_again_change_nothing(weights, opened, picture, on_the_grid):
    image = np.tile(picture[0], (1, 2))
    expected = on_the_grid(image, opened, UM)
    assert len(np.unique(expected)) > 200
    again = open_segmenter("cellpose", weights=weights)
    assert (on_the_grid(image, again, UM, workers=4, backwards=True) == expected).all()


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "no").write_bytes(b"no model")
    with pytest.raises(InputError, match="cannot be read as a model of Cellpose 3"):
        open_segmenter("cellpose", weights=tmp_path / "no")
    with pytest.raises(InputError, match="needs weights"):
        open_segmenter("cellpose")
