"""P1: label, overview, macro and thumbnail pictures of a slide are never decoded and reach no result."""

from __future__ import annotations

import base64
import io
import os
import re
from concurrent.futures import Executor, Future

import numpy as np
import pytest
import tifffile
import zarr
from slide_fixtures import write_qptiff

from mihc import pipeline
from mihc.drawing.slide import draw_slide
from mihc.study import read_study

NAMES = ["DAPI", "CD3", "CD20"]
PANEL = "channel,marker,role,compartment\nDAPI,DAPI,nuclei,nucleus\nCD3,CD3,marker,cell\nCD20,CD20,marker,cell\n"


def canary(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Pixels that no measured picture has: random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


class Here(Executor):
    """Does every task at once, in this process, where its reads can be heard."""

    def submit(self, function, /, *arguments, **named):
        future = Future()
        try:
            future.set_result(function(*arguments, **named))
        except BaseException as error:
            future.set_exception(error)
        return future


@pytest.fixture(scope="module")
def run_with_canaries(tmp_path_factory):
    """The results folder of a whole run, the canaries' places in the file, their bytes, and all positioned reads."""
    folder = tmp_path_factory.mktemp("canary")
    image = np.ascontiguousarray(draw_slide(seed=8, size_px=(640, 640)).image[:3])
    path = write_qptiff(folder / "s.qptiff", image, NAMES)
    data, places, canaries = bytearray(path.read_bytes()), [], []
    with tifffile.TiffFile(path) as tiff:
        for page in (page for page in tiff.pages if page.photometric == 2):
            picture = canary(page.shape, len(places))
            places.append((page.dataoffsets[0], page.databytecounts[0]))
            canaries.append(picture)
            data[places[-1][0] : sum(places[-1])] = picture.tobytes()
    path.write_bytes(data)
    (folder / "study.toml").write_text('[study]\nname = "canary"\n')
    (folder / "panel.csv").write_text(PANEL)
    (folder / "slides.csv").write_text("slide,file,patient\nS1,s.qptiff,P1\n")
    (folder / "clinical.csv").write_text("patient\nP1\n")
    reads, pread = [], os.pread
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", lambda file, count, at: (reads.append((at, count)), pread(file, count, at))[1])
        results = pipeline.run(read_study(folder), executor=Here())
    assert results.failed == {} and results.report is not None and len(canaries) == 3
    return folder / "results", places, canaries, reads


def test_P1_no_pixel_of_a_label_overview_or_thumbnail_is_read_for_decoding(run_with_canaries):
    _, places, _, reads = run_with_canaries
    assert len(reads) > 100
    assert [(at, count) for at, count in reads for o, n in places if at < o + n and o < at + count] == []


def windows_of(data: bytes, canaries: list[np.ndarray]) -> list[int]:
    """Which canaries show a run of 24 of their bytes in some data."""
    return [
        number
        for number, picture in enumerate(canaries)
        if any(picture.tobytes()[at : at + 24] in data for at in range(0, picture.size - 24, 24))
    ]


def test_P1_no_result_holds_a_pixel_of_them(run_with_canaries):
    results, _, canaries, _ = run_with_canaries
    pixels = [zarr.open_array(p.parent, mode="r")[...].tobytes() for p in results.rglob("*/0/zarr.json")]
    files = [p.read_bytes() for p in results.rglob("*") if p.is_file()]
    pictures = [as_pixels(found) for p in results.rglob("*.html") for found in pictures_in(p.read_text())]
    pictures += [as_pixels(p.read_bytes()) for p in results.rglob("*.png")]
    assert len(pixels) >= 4 and len(files) > 20 and len(pictures) >= 1
    assert [windows_of(data, canaries) for data in (*pixels, *files, *pictures) if windows_of(data, canaries)] == []


def test_P1_the_search_finds_a_canary_that_is_there(run_with_canaries):
    results, _, canaries, _ = run_with_canaries
    slide = (results.parent / "s.qptiff").read_bytes()
    assert windows_of(slide, canaries) == [0, 1, 2]


def pictures_in(html: str) -> list[bytes]:
    return [
        base64.b64decode(text) for text in re.findall(r"data:image/(?:png|jpeg|webp);base64,([A-Za-z0-9+/=]+)", html)
    ]


def as_pixels(picture: bytes) -> bytes:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).tobytes()
