"""The InstanSeg adapter on a network of InstanSeg's own make: random features, the last layer fitted in a second."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage

from mihc.errors import InputError
from mihc.nuclei import segment_nuclei
from mihc.segmenters import open_segmenter

UM = 0.5


def fitted(picture):
    """A small U-Net of random features; its last layer says no offset, bright or not, and where the middles are."""
    from instanseg.utils.loss.instanseg_loss import InstanSeg as Loss
    from instanseg.utils.models.InstanSeg_UNet import InstanSeg_UNet

    torch.manual_seed(0)
    net = InstanSeg_UNet(in_channels=1, layers=np.array([32, 24]), out_channels=[[2, 2, 1]], norm="BATCH", dropout=0.0)
    net = Loss(n_sigma=2, device="cpu").initialize_pixel_classifier(net).eval()
    image, truth = (array[:160, :160] for array in picture)
    heads, features = net.decoders[0].final_block, []
    heads[0].register_forward_pre_hook(lambda _module, given: features.append(given[0]))
    with torch.inference_mode():
        net(torch.from_numpy(((image.astype(np.float32) - 110) / 1200)[None, None]))
    x = features[0][0].flatten(1).T.double().numpy()
    middle = ndimage.distance_transform_edt(np.pad(truth > 0, 1))[1:-1, 1:-1].ravel()
    bright, nothing = 2 * (middle > 0) - 1.0, 0 * middle
    for head, wanted in zip(heads, ([nothing, nothing], [bright, bright], [3 * middle - 6]), strict=True):
        found, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), np.stack(wanted, axis=1), rcond=1e-9)
        with torch.no_grad():
            head[0].weight[:] = torch.from_numpy(found[:-1].T[:, :, None, None]).float()
            head[0].bias[:] = torch.from_numpy(found[-1]).float()
    heads[0]._forward_pre_hooks.clear()
    _train_masks(net.pixel_classifier)
    return net


def _train_masks(classifier):
    """A pixel belongs to a seed's mask when it is bright and within 10 pixels; coordinates are in 4 pixels."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=0.02)
    for _ in range(400):
        x = torch.rand(2000, 4, generator=generator) * torch.tensor([16.0, 16.0, 3.0, 3.0])
        x = x - torch.tensor([8.0, 8.0, 1.5, 1.5])
        wanted = ((x[:, :2] ** 2).sum(1) < 2.5**2) & (x[:, 2:].mean(1) > 0)
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(classifier(x.clone())[:, 0], wanted.float())
        loss.backward()
        optimiser.step()


@pytest.fixture(scope="module")
def weights(picture, tmp_path_factory):
    """A TorchScript file as InstanSeg publishes it, and one of a model trained on pictures half as fine."""
    from instanseg.utils.loss.instanseg_loss import InstanSeg_Torchscript

    folder, net = tmp_path_factory.mktemp("weights"), fitted(picture)
    for name, size in (("fine.pt", 0.5), ("coarse.pt", 1.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, and of a machine without CUDA
            model = InstanSeg_Torchscript(net, pixel_size=size, n_sigma=2, backbone_dim_in=1)
            torch.jit.save(torch.jit.script(model), folder / name)
    return folder


def test_the_model_is_loaded_with_its_pixel_size_and_finds_the_drawn_nuclei(weights, picture, found_where_drawn):
    segmenter = open_segmenter("instanseg", weights=weights / "fine.pt")
    assert segmenter.pixel_size_um == 0.5 and segmenter.channels == 1
    labels = segment_nuclei(picture[0], pixel_size_um=UM, method=segmenter)
    nuclei, glass = found_where_drawn(labels, picture[1])
    assert nuclei > 0.9 and glass < 0.2
    assert 0.7 < (len(np.unique(labels)) - 1) / picture[1].max() < 1.2


def test_a_slide_twice_as_fine_gives_the_same_nuclei(weights, picture, found_where_drawn):
    image, truth = (np.repeat(np.repeat(array, 2, axis=0), 2, axis=1) for array in picture)
    labels = segment_nuclei(
        image, pixel_size_um=UM / 2, method=open_segmenter("instanseg", weights=weights / "fine.pt")
    )
    nuclei, glass = found_where_drawn(labels, truth)
    assert labels.shape == image.shape and nuclei > 0.9 and glass < 0.2
    assert open_segmenter("instanseg", weights=weights / "coarse.pt").pixel_size_um == 1.0


def test_NP6_workers_order_and_loading_again_change_nothing(weights, picture, on_the_grid):
    image = np.tile(picture[0], (2, 2))
    expected = on_the_grid(image, open_segmenter("instanseg", weights=weights / "fine.pt"), UM)
    assert len(np.unique(expected)) > 500
    again = open_segmenter("instanseg", weights=weights / "fine.pt")
    assert (on_the_grid(image, again, UM, workers=4, backwards=True) == expected).all()
    assert (segment_nuclei(image, pixel_size_um=UM, method=again) == expected).all()


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "no.pt").write_bytes(b"no model")
    with pytest.raises(InputError, match="cannot be read as a TorchScript file"):
        open_segmenter("instanseg", weights=tmp_path / "no.pt")
    with pytest.raises(InputError, match="needs weights"):
        open_segmenter("instanseg")
