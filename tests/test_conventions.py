"""One test for every sentence of docs/conventions.md; each quotes its sentence and checks it with the real code.

Those on counts, areas, groups and models are in test_conventions_numbers.py.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
import test_conventions_numbers
import tifffile
from drawn_nuclei import draw
from slide_fixtures import TiffLayout, Tile, czi_xml, ome_document, ome_xml, write_czi, write_pages

import mihc
from mihc.areas.outlines import mask_to_polygons
from mihc.cells import FLAGS, CellSettings, cells_in_window, fixed_point_bits
from mihc.errors import SlideError
from mihc.nuclei import halo_px, slide_reference
from mihc.regions import Region, area_ledger, ledger_warnings, partition, rasterise
from mihc.results import slide_regions, viewer_um
from mihc.store import Store, build_pyramid, create_image, open_image, open_labels, write_image_window
from mihc.windows import windows

ROOT = Path(__file__).parents[1]
SIZE = 0.5  # µm per pixel of the little study
box = shapely.box


# ---- the page and the tests


def normal(text: str) -> str:
    return " ".join(text.split())


def sentences() -> set[tuple[str, str]]:
    page = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    found = re.findall(r"^- \*\*(C\d\d)\*\* (.*?)(?=^- \*\*C|^#|\Z)", page, flags=re.MULTILINE | re.DOTALL)
    return {(number, normal(text)) for number, text in found}


def quoted() -> set[tuple[str, str]]:
    everything = {**globals(), **vars(test_conventions_numbers)}
    tests = [(name, test) for name, test in everything.items() if re.match(r"test_C\d\d_", name)]
    return {(name[5:8], normal(test.__doc__ or "")) for name, test in tests}


def test_every_sentence_of_the_page_is_quoted_by_a_test_and_every_quotation_is_on_the_page():
    assert len(sentences()) == 24
    assert sentences() == quoted()


def test_the_contract_says_every_sentence_of_the_page_too():
    contract = normal((ROOT / "docs" / "design.md").read_text(encoding="utf-8")).casefold()
    assert [text for _, text in sentences() if text.rstrip(".").casefold() not in contract] == []


# ---- a little study, run once: a float slide without pixel size, with annotations whose borders cut through pixels


ANNOTATIONS = {  # pixels: name, class, x0, y0, x1, y1
    "nest": ("Tumor", 20.9, 20.9, 150.1, 200.4),
    "rest": ("Stroma", 150.1, 20.9, 280.6, 200.4),
    "Fold": ("Fold", 100.0, 20.9, 130.0, 90.0),
}


def write_study(folder: Path) -> Path:
    folder.mkdir()
    image = draw((240, 330), channels=2, seed=4)[0].astype(np.float32) / np.float32(3)
    tifffile.imwrite(folder / "a.tif", image, photometric="minisblack")
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [list(map(list, box(*corners).exterior.coords))]},
            "properties": {"objectType": "annotation", "name": name, "classification": {"name": kind}},
        }
        for name, (kind, *corners) in ANNOTATIONS.items()
    ]
    (folder / "annotations").mkdir()
    document = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "annotations" / "S1.geojson").write_text(document, encoding="utf-8")
    panel = "channel,marker,role,threshold\n0,DAPI,nuclei,\n1,CD3,marker,150\n"
    (folder / "panel.csv").write_text(panel, encoding="utf-8")
    (folder / "slides.csv").write_text(f"slide,file,patient,pixel_size_um\nS1,a.tif,P1,{SIZE}\n", encoding="utf-8")
    (folder / "study.toml").write_text('[study]\nname = "little"\n', encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> mihc.Study:
    """The study with its results, not to be written to."""
    study = mihc.read_study(write_study(tmp_path_factory.mktemp("conventions") / "little"))
    assert mihc.run(study).failed == {}
    return study


def stored_labels(study: mihc.Study, name: str) -> np.ndarray:
    return np.asarray(open_labels(mihc.slide_image(study, "S1"), name)[0][:])


def table(study: mihc.Study, name: str) -> pd.DataFrame:
    return pd.read_csv(study.results / f"{name}.csv")


# ---- places


def test_C03_axes(tmp_path):
    """Axes are c, y, x."""
    image = np.zeros((2, 30, 40), np.uint16)
    image[1, 3, 7] = 900
    path = write_pages(tmp_path / "a.tif", image)
    with mihc.open_slide(path, pixel_size_um=(0.5, 0.503)) as slide:
        assert slide.image.shape == (2, 30, 40)
        assert slide.image[1, 3:4, 7:8].tolist() == [[900]]
        assert slide.pixel_size_um == (0.5, 0.503)
    create_image(
        tmp_path / "a.ome.zarr", shape=(2, 30, 40), dtype="uint16", pixel_size_um=(0.5, 0.503),
        channels=["a", "b"], colours=["FFFFFF", "00FF00"],
    )  # fmt: skip
    written = json.loads((tmp_path / "a.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    assert [axis["name"] for axis in written["axes"]] == ["c", "y", "x"]


def test_C04_where_zero_is(tmp_path):
    """µm coordinates have x right, y down and their origin at the top-left corner of the first pixel of the slide's
    canvas (the chosen scene's bounding box, as QuPath shows it; with scene "all", the box of all scenes), as QuPath,
    HALO and raster geometry have it: pixel i spans [i, i+1) x pixel size; a centroid is (mean index + 0.5) x pixel
    size.
    """
    # the canvas: two scenes of a CZI, at (x, y) = (-100, -50) and (-60, 10), 32 pixels wide
    tiles = [
        Tile(np.full((32, 32), value, np.uint16), x, y, scene=scene, m=0)
        for scene, (value, x, y) in enumerate([(5, -100, -50), (7, -60, 10)])
    ]
    path = write_czi(tmp_path / "s.czi", tiles, czi_xml(["DAPI"], scenes=["a", "b"]))
    with mihc.open_slide(path, scene="b") as slide:
        assert slide.image.shape == (1, 32, 32)
        assert slide.image[0, 0:1, 0:1].item() == 7
    with mihc.open_slide(path, scene="all") as slide:
        assert slide.image.shape == (1, 10 + 32 + 50, -60 + 32 + 100)
        assert slide.image[0, 0:1, 0:1].item() == 5
        assert slide.image[0, 60:61, 40:41].item() == 7
        assert slide.image[0, 59:60, 40:41].item() == 0
    # a pixel's span, and the centroid of [[., 1, 1], [., ., 1]]: mean x (1 + 2 + 2) / 3, mean y (0 + 0 + 1) / 3
    labels = np.array([[0, 1, 1], [0, 0, 1]], np.uint32)
    cells = mihc.measure_cells(np.ones((1, 2, 3)), labels, labels, markers=["a"], pixel_size_um=(0.5, 2.0))
    assert cells[["x_um", "y_um"]].to_numpy().tolist() == [[(5 / 3 + 0.5) * 2.0, (1 / 3 + 0.5) * 0.5]]
    lone = np.zeros((5, 6), bool)
    lone[2, 3] = True
    assert mask_to_polygons(lone, pixel_size_um=(0.5, 2.0)).bounds == (6.0, 1.0, 8.0, 1.5)
    # QuPath and HALO count pixels from the same corner
    ring = [[3, 2], [4, 2], [4, 3], [3, 3], [3, 2]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": "Tumor"},
    }
    (tmp_path / "q.geojson").write_text(json.dumps(feature))
    corners = "".join(f'<V X="{x}" Y="{y}"/>' for x, y in ring[:-1])
    (tmp_path / "h.annotations").write_text(
        '<Annotations><Annotation Name="Tumor"><Regions><Region Type="Polygon" NegativeROA="0">'
        f"<Vertices>{corners}</Vertices></Region></Regions></Annotation></Annotations>"
    )
    for name in ("q.geojson", "h.annotations"):
        (region,) = mihc.read_regions(tmp_path / name, pixel_size_um=(0.5, 2.0))
        assert region.polygon_um.bounds == (6.0, 1.0, 8.0, 1.5)


def test_C05_napari_and_ome_zarr(tmp_path):
    """napari and OME-Zarr put 0 at the pixel's centre: one function converts, in one place, and every pyramid level
    carries the scale and the translation that match how it was made.
    """
    # the centre of pixel (y, x) = (2, 3) is (2.5, 3.5) pixels from the corner, and (2, 3) from the first centre
    y, x = viewer_um(np.array([3.5 * 2.0]), np.array([2.5 * 0.5]), pixel_size_um=(0.5, 2.0))
    assert (y.tolist(), x.tolist()) == ([2 * 0.5], [3 * 2.0])
    # a ramp tells of every pixel of every level where it lies: its value is twice its centre's place in pixels
    path = tmp_path / "ramp.ome.zarr"
    ramp = np.broadcast_to(2 * np.arange(2200, dtype=np.float32), (8, 2200))
    create_image(
        path, shape=(1, 8, 2200), dtype="float32", pixel_size_um=0.25, channels=["a"], colours=["FFFFFF"], windows=None
    )
    for x0 in (0, 2048):
        write_image_window(path, 0, 0, 0, x0, ramp[:, x0 : x0 + 2048])
    with ThreadPoolExecutor(1) as pool:
        build_pyramid(path, pool.submit)
    levels = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"]
    assert len(levels) == 3
    for level, told in zip(open_image(path).levels, levels):
        scale, translation = (step[step["type"]][-1] for step in told["coordinateTransformations"])
        places_um = scale * np.arange(level.shape[2]) + translation
        assert np.asarray(level[0, 0:1, :])[0].tolist() == (2 * places_um / 0.25).tolist()


# ---- pixel size


def written(folder: Path, *, ome: tuple[float, float] | None = None, tags_um: float | None = None) -> Path:
    """A TIFF that says its pixel size in OME-XML (x, y), in its resolution tags, in both or nowhere."""
    image = np.arange(600, dtype=np.uint16).reshape(1, 20, 30)
    layout = TiffLayout(resolution=(1e4 / tags_um, 1e4 / tags_um), resolutionunit="CENTIMETER") if tags_um else None
    description = ome_document(ome_xml(image, size=(str(ome[0]), str(ome[1])))) if ome else None
    return write_pages(folder / f"{ome}{tags_um}.ome.tif", image, description=description, layout=layout)


def test_C06_pixel_size_is_never_guessed(tmp_path):
    """Pixel size is never guessed."""
    with pytest.raises(SlideError, match="no physical pixel size"):
        mihc.open_slide(written(tmp_path))
    with pytest.raises(SlideError, match="72 dpi, a screen resolution"):
        mihc.open_slide(written(tmp_path, tags_um=25400 / 72))
    takers = [mihc.segment_nuclei, mihc.slide_reference, mihc.grow_cells, mihc.measure_cells, mihc.read_regions]
    for function in takers:  # nor is there a default that somebody could forget
        assert inspect.signature(function).parameters["pixel_size_um"].default is inspect.Parameter.empty


def test_C07_where_the_pixel_size_comes_from(tmp_path, study):
    """It comes from the file, with its source recorded, or from slides.csv; missing, absurd (outside 0.05 to 5 µm),
    anisotropic by more than 1 % or contradicting sources = refused, with the line to type.
    """
    with mihc.open_slide(written(tmp_path, ome=(0.5, 0.5))) as slide:
        assert (slide.pixel_size_um, slide.pixel_size_source) == ((0.5, 0.5), "OME-XML PhysicalSize")
    noted = Store(study.results).open_notes("slide", "S1")
    assert (noted["pixel_size_um"], noted["pixel_size_source"]) == ([SIZE, SIZE], "given as pixel_size_um")
    for at_the_limit in (0.05, 5.0):
        mihc.open_slide(written(tmp_path, ome=(at_the_limit, at_the_limit))).close()
    mihc.open_slide(written(tmp_path, ome=(0.5, 0.505))).close()
    refused = [
        (written(tmp_path), None),
        (written(tmp_path, ome=(0.049, 0.049)), None),
        (written(tmp_path, ome=(5.01, 5.01)), None),
        (written(tmp_path, ome=(0.5, 0.506)), None),
        (written(tmp_path, ome=(0.5, 0.5), tags_um=0.25), None),
        (written(tmp_path, ome=(0.5, 0.5)), 0.25),
    ]
    for path, given in refused:
        with pytest.raises(SlideError) as caught:
            mihc.open_slide(path, pixel_size_um=given)
        assert re.search(
            r"slides\.csv, column pixel_size_um|Export the slide again with square pixels", caught.value.fix
        )


# ---- cells


def test_C08_labels(study):
    """Labels are uint32, 0 is background, ids unique within a slide; nuclei and their cells share the id."""
    nuclei, cells = stored_labels(study, "nuclei"), stored_labels(study, "cells")
    assert nuclei.dtype == cells.dtype == np.uint32
    assert 0 < (cells == 0).mean() < 1
    ids = mihc.slide_cells(study, "S1")["cell"]
    assert ids.dtype == np.uint32 and ids.is_unique and len(ids) > 50
    assert set(np.unique(nuclei[nuclei > 0])) == set(np.unique(cells[cells > 0])) == set(ids)
    assert (cells[nuclei > 0] == nuclei[nuclei > 0]).all()


def in_windows(image: np.ndarray, side: int) -> pd.DataFrame:
    bits = tuple(fixed_point_bits(plane) for plane in image)
    settings = CellSettings(8.0, 4.0, (0,), ((0, "DAPI"), (1, "CD3")), bits)
    reference = slide_reference(image[0], pixel_size_um=SIZE)
    parts = [
        cells_in_window(
            image[:, *window.padded], window, shape=image.shape[1:], pixel_size_um=SIZE, settings=settings,
            reference=reference,
        ).table
        for window in windows(image.shape[1:], side, halo_px(SIZE))
    ]  # fmt: skip
    return pd.concat(parts).sort_values("cell", ignore_index=True)


def test_C09_sums_are_integers(study):
    """Sums and counts stay integers until the last division, so that no window size can change a digit; float channels
    are summed in fixed point, round(value x 2^k), k chosen per channel before the window pass and recorded.
    """
    image = tifffile.imread(study.folder / "a.tif")
    pd.testing.assert_frame_equal(in_windows(image, 97), in_windows(image, 1000), check_exact=True)
    # one cell again, in whole numbers
    measured = mihc.slide_cells(study, "S1")
    row, labels = measured.iloc[len(measured) // 2], stored_labels(study, "cells")
    k = fixed_point_bits(image[1])
    assert k > 0
    total = sum(round(Fraction(float(value)) * 2**k) for value in image[1][labels == row["cell"]])
    assert row["CD3_cell_mean"] == total / (int((labels == row["cell"]).sum()) * 2**k)
    recorded = Store(study.results).open_notes("cells", "S1")
    assert recorded.get("fixed_point_bits") == {"DAPI": fixed_point_bits(image[0]), "CD3": k}


# ---- regions and areas


def test_C10_a_region_is_vector_geometry(study):
    """A region is vector geometry."""
    triangle = shapely.Polygon([(0.25, 0.5), (1000.25, 0.5), (0.25, 800.5)])
    assert Region("nest", "tumour", triangle).area_mm2 == 0.4
    assert all(isinstance(region.polygon_um, shapely.Geometry) for region in slide_regions(study, "S1"))


CLASSES = ("tumour", "stroma", "other", "excluded", "outside")


def test_C11_every_cell_is_in_exactly_one(study):
    """A cell belongs to the region that holds its nucleus centroid, by a half-open rule, so that every cell is in
    exactly one: tumour + stroma + other + excluded + outside = all, in cells and in area.
    """
    # four boxes that share edges and the corner (10, 10); a box is [left, right) x [top, bottom)
    boxes = [(0, 0, 10, 10), (10, 0, 20, 10), (0, 10, 10, 20), (10, 10, 20, 20)]
    regions = [Region(name, name, box(*corners)) for name, corners in zip(CLASSES, boxes)]
    x, y = [5, 10, 5, 10, 20, 0], [5, 5, 10, 10, 5, 0]
    placed = mihc.assign_regions(x, y, regions, precedence=CLASSES[:4])["tissue_class"]
    assert placed.tolist() == ["tumour", "stroma", "other", "excluded", "outside", "tumour"]
    # in the study: the nucleus' centroid decides, every cell has one class, and cells and areas sum
    cells = mihc.slide_cells(study, "S1")
    again = mihc.assign_regions(cells["x_um"], cells["y_um"], slide_regions(study, "S1"))
    assert again["region"].tolist() == cells["region"].tolist()
    assert set(cells["tissue_class"]) <= set(CLASSES)
    ledger = table(study, "area_ledger")
    parts = ledger[ledger["category"].isin(["tumour", "stroma", "other", "excluded", "unannotated", "glass"])]
    whole = ledger[ledger["category"] == "scanned"].iloc[0]
    assert parts["cells"].sum() == whole["cells"] == len(cells)
    assert math.isclose(parts["area_mm2"].sum(), whole["area_mm2"], rel_tol=1e-9)


def test_C14_an_annotated_region(study):
    """An annotated region is its polygon, cut to the scanned area, minus what is excluded; it is not cut by tissue
    detection (its share of glass is shown, and warned of over 10 %).
    """
    drawn = [Region("nest", "tumour", box(-50, 0, 100, 100)), Region("fold", "excluded", box(80, 0, 100, 50))]
    scanned = box(0, 0, 1000, 1000)
    parts = {part.name: part.polygon_um.area for part in partition(drawn, scanned=scanned)}
    assert parts == {"nest": 100 * 100 - 20 * 50, "fold": 20 * 50}
    no_cells = pd.DataFrame({"x_um": [], "y_um": [], "region": [], "tissue_class": []})
    for tissue_to, glass, warned in ((90.0, 10.0, False), (89.0, 11.0, True)):
        ledger = area_ledger(
            "S1", partition([Region("nest", "tumour", box(0, 0, 100, 100))], scanned=scanned), scanned=scanned,
            tissue=box(0, 0, tissue_to, 100), cells=no_cells,
        )  # fmt: skip
        row = ledger.set_index("category").loc["tumour"]
        assert row["area_mm2"] == 0.01 and row["glass_percent"] == pytest.approx(glass)
        assert bool(ledger_warnings(ledger)) is warned
    # and through the whole flow
    areas = table(study, "regions").set_index("region")["area_mm2"]
    x0, y0, x1, y1 = ANNOTATIONS["nest"][1:]
    fold = (130.0 - 100.0) * (90.0 - 20.9)
    assert areas["nest"] == pytest.approx(((x1 - x0) * (y1 - y0) - fold) * SIZE**2 / 1e6, rel=1e-9)


def test_C15_a_mask_becomes_polygons():
    """A mask becomes polygons along its pixels' edges, so that mask and polygon areas are equal."""
    mask = np.random.default_rng(3).random((60, 50)) < 0.5
    outline = mask_to_polygons(mask)
    assert outline.area == mask.sum()
    corners = shapely.get_coordinates(outline)
    assert (corners == np.rint(corners)).all()
    assert (rasterise([Region("a", "tumour", outline)], mask.shape, 1.0) > 0).tolist() == mask.tolist()


def test_C16_the_labels_of_regions_count_nothing(study):
    """labels/regions is a picture of the polygons and counts nothing."""
    painted = stored_labels(study, "regions")
    regions = slide_regions(study, "S1")
    assert painted.tolist() == rasterise(regions, painted.shape, SIZE).tolist()
    counted = table(study, "area_ledger").set_index("region")["area_mm2"]
    for region in regions:  # borders cut through pixels, so the picture's areas are others
        assert counted[region.name] == pytest.approx(region.area_mm2, rel=1e-12)
    nest = next(index for index, region in enumerate(regions, 1) if region.name == "nest")
    assert abs((painted == nest).sum() * SIZE**2 / 1e6 - counted["nest"]) > 1e-5
    readers = [path.name for path in (ROOT / "mihc").rglob("*.py") if "labels/regions" in code_of(path)]
    assert readers == ["outline.py"]  # which paints it


def code_of(path: Path) -> str:
    """The strings of a module but for its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return "\n".join(node.value for node in texts if id(node) not in docstrings)


# ---- what is missing is said


def test_C21_no_cell_is_dropped(study):
    """No cell is ever dropped in silence: it is kept and flagged, and the report shows segmented -> excluded ->
    analysed.
    """
    labels, cells = stored_labels(study, "cells"), mihc.slide_cells(study, "S1")
    assert set(np.unique(labels[labels > 0])) == set(cells["cell"])
    assert {"excluded", "outside", "tumour", "stroma"} == set(cells["tissue_class"])
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    flagged = cells.loc[cells["flags"] & FLAGS["touches_edge"] > 0, "cell"]
    assert set(flagged) == set(border) - {0} and len(flagged) > 3
    page = (study.results / "report.html").read_text(encoding="utf-8")
    lines = [re.sub(r"<[^>]+>", " ", line).split() for line in re.findall(r"<tr>.*?</tr>", page, flags=re.DOTALL)]
    classes = cells["tissue_class"]
    shown = {
        "scanned": len(cells),
        "excluded": int((classes == "excluded").sum()),
        "analysed": int(classes.isin(["tumour", "stroma", "other"]).sum()),
    }
    for category, count in shown.items():
        assert any(line[0] == category and str(count) in line for line in lines if line), category
