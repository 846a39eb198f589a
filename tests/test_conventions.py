"""One test for every sentence of docs/conventions.md; each quotes its sentence and checks it with the real code."""

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
import tifffile
from drawn_nuclei import draw
from slide_fixtures import TiffLayout, Tile, czi_xml, ome_document, ome_xml, write_czi, write_pages

import mihc
from mihc.areas.outlines import mask_to_polygons
from mihc.associate import associate
from mihc.cells import FLAGS, CellSettings, cells_in_window, fixed_point_bits
from mihc.errors import SlideError
from mihc.nuclei import halo_px, slide_reference
from mihc.regions import Region, area_ledger, ledger_warnings, partition, rasterise
from mihc.results import slide_regions, viewer_um
from mihc.statistics import cox, cut_split, given_split, median_split, slope_change_split, tertile_split
from mihc.store import Store, build_pyramid, create_image, open_image, open_labels, write_image_window
from mihc.studies.settings import Outcome, Settings, Splits, StudyInfo
from mihc.study import study_notes, study_table
from mihc.windows import windows

ROOT = Path(__file__).parents[1]
SIZE = 0.5  # µm per pixel of the little study
box = shapely.box
count_populations = mihc.count_populations


# ---- the page and the tests


def normal(text: str) -> str:
    return " ".join(text.split())


def sentences() -> set[tuple[str, str]]:
    page = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    found = re.findall(r"^- \*\*(C\d\d)\*\* (.*?)(?=^- \*\*C|^#|\Z)", page, flags=re.MULTILINE | re.DOTALL)
    return {(number, normal(text)) for number, text in found}


def quoted() -> set[tuple[str, str]]:
    tests = [(name, test) for name, test in globals().items() if re.match(r"test_C\d\d_", name)]
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


# ---- definitions


def cells_of(*rows: tuple[str, str, bool]) -> pd.DataFrame:
    cells = pd.DataFrame(rows, columns=["region", "tissue_class", "CD20_positive"])
    return cells.astype({"CD20_positive": "boolean"})


def test_C01_positivity():
    """Positivity (%) = cells positive for a marker or phenotype in a region / all cells in that region x 100."""
    cells = cells_of(*[("nest", "tumour", True)] * 3, *[("nest", "tumour", False)] * 5, ("rest", "stroma", True))
    counts = count_populations(cells, populations={"CD20": "CD20_positive"}, area_mm2={("nest", "tumour"): 1.0})
    assert counts.set_index("region")["positivity_percent"].to_dict() == {"nest": 37.5, "rest": 100.0}


def test_C02_density():
    """Density (cells/mm²) = those positive cells / analysed area of that region in mm²."""
    cells = cells_of(*[("nest", "tumour", True)] * 3, *[("nest", "tumour", False)] * 5)
    counts = count_populations(cells, populations={"CD20": "CD20_positive"}, area_mm2={("nest", "tumour"): 0.25})
    assert counts["density_per_mm2"].tolist() == [12.0]


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


def test_C23_percentiles_and_deviations():
    """A percentile is R's type 7 and a standard deviation divides by n; of no pixels both are NaN."""
    labels = np.array([[1, 1, 1, 1, 0]])
    cells = mihc.measure_cells(
        np.array([[[1, 2, 4, 8, 99]]]), labels, labels, markers=["a"], pixel_size_um=1.0,
        features=["percentile:40", "sd"],
    )  # fmt: skip
    assert cells["a_cell_p40"][0] == pytest.approx(2.4, rel=1e-15)  # R 4.2: quantile(c(1, 2, 4, 8), 0.4, type = 7)
    assert cells["a_cell_sd"][0] == math.sqrt(85 / 4 - (15 / 4) ** 2)
    assert cells[["a_cytoplasm_p40", "a_cytoplasm_sd"]].isna().all(axis=None)


def test_C24_axes():
    """Axes are those of the ellipse with the same second moments, a pixel being a filled square."""
    labels = np.array([[1, 1, 1]])
    cells = mihc.measure_cells(np.ones((1, 1, 3)), labels, labels, markers=["a"], pixel_size_um=1.0, features=["shape"])
    # a rectangle of 3 x 1 has the moments 9/12 and 1/12, an ellipse of full axes a and b has a^2/16 and b^2/16
    assert cells["cell_major_axis_um"][0] == pytest.approx(math.sqrt(16 * 9 / 12), rel=1e-15)
    assert cells["cell_minor_axis_um"][0] == pytest.approx(math.sqrt(16 / 12), rel=1e-15)


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


def account() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A slide of 1 mm², 0.6 mm² of it tissue, with regions of 0.1 mm² steps; and a cell in each tenth, left to right.

    x in mm: tumour 0 to 0.2, stroma 0.2 to 0.5 with a fold from 0.4, tissue without annotation to 0.6, other (drawn on
    glass) to 0.7, glass.
    """
    regions = [
        Region("nest", "tumour", box(0, 0, 200, 1000)),
        Region("rest", "stroma", box(200, 0, 500, 1000)),
        Region("fold", "excluded", box(400, 0, 500, 1000)),
        Region("gland", "other", box(600, 0, 700, 1000)),
    ]
    scanned, tissue = box(0, 0, 1000, 1000), box(0, 0, 600, 1000)
    cells = pd.DataFrame({"x_um": np.arange(50.0, 1000, 100), "y_um": 500.0})
    cells = cells.join(
        mihc.assign_regions(cells["x_um"], cells["y_um"], regions, precedence=("excluded", *CLASSES[:3]))
    )
    parts = partition(regions, scanned=scanned)
    return area_ledger("S1", parts, scanned=scanned, tissue=tissue, cells=cells), cells


def test_C12_outside_and_excluded_cells():
    """outside = glass, or tissue that no annotation covers; excluded and outside cells are in no denominator."""
    ledger, cells = account()
    outside = cells[cells["tissue_class"] == "outside"]
    assert outside["x_um"].tolist() == [550.0, 750.0, 850.0, 950.0]
    counted = ledger.set_index("category")["cells"]
    assert (counted["unannotated"], counted["glass"], counted["excluded"]) == (1, 3, 1)
    cells["CD20_positive"] = pd.array([True] * 10, dtype="boolean")
    counts = count_populations(cells, populations={"CD20": "CD20_positive"}, area_mm2={("nest", "tumour"): 0.2})
    assert counts[["tissue_class", "cells"]].to_numpy().tolist() == [["tumour", 2], ["other", 1], ["stroma", 2]]


def test_C13_the_ledger():
    """Area ledger, per slide, in mm² from polygons: scanned = glass + tissue; tissue = tumour + stroma + other +
    excluded (by reason) + unannotated (what an annotation covers counts as tissue); analysed = tumour + stroma + other.
    """
    ledger, _ = account()
    area = ledger.set_index("category")["area_mm2"].round(12).to_dict()
    assert area == {
        "scanned": 1.0, "glass": 0.3, "tissue": 0.7, "tumour": 0.2, "stroma": 0.2, "other": 0.1, "excluded": 0.1,
        "unannotated": 0.1, "analysed": 0.5, "holes": 0.0,
    }  # fmt: skip
    assert ledger.set_index("category").loc["excluded", "region"] == "fold"


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


# ---- groups and models


def test_C17_positive():
    """Positive means value >= threshold."""
    below = np.nextafter(150.0, 0)
    cells = pd.DataFrame({"CD3_cell_mean": [below, 150.0, 151.0]})
    called = mihc.call_positives(cells, {"CD3": 150.0}, compartments={"CD3": "cell"})
    assert called["CD3_positive"].tolist() == [False, True, True]


def test_C18_groups():
    """Groups: low = value <= cut, high = value > cut (median, tertiles by R's type 7, slope, maxstat); a given number
    is a clinical cut-off: high = value >= number.
    """
    assert median_split([1, 2, 3]).labels.tolist() == ["low", "low", "high"]
    # R: quantile(c(1, 2, 4, 8), c(1/3, 2/3), type = 7) is 2 and 4
    tertiles = tertile_split([1, 2, 4, 8])
    assert tertiles.cuts == pytest.approx((2, 4))
    assert tertile_split([0, 3, 6, 9]).labels.tolist() == ["low", "low", "middle", "high"]
    # two straight lines, of slopes 1 and 10, that part between 5 and 15: the cut is 10
    times = [1, 2, 3, 4, 5, 15, 25, 35, 45]
    slope = slope_change_split([*times, 10.0], [1] * 10)
    assert [label for time, label in zip([*times, 10.0], slope.labels) if time <= slope.cut] == ["low"] * slope.n_low
    assert set(np.array([*times, 10.0])[slope.labels == "high"] > slope.cut) == {True}
    assert cut_split([1, 2, 3], 2).labels.tolist() == ["low", "low", "high"]  # maxstat's cut
    assert given_split([1, 2, 3], 2).labels.tolist() == ["low", "high", "high"]


CD20 = "CD20|tumour|density_per_mm2"


def patients_of(values: list[float]) -> pd.DataFrame:
    n = len(values)
    time = np.array([2.0 + (7 * place) % 11 for place in range(n)])
    event = np.array([float(place % 3 > 0) for place in range(n)])
    return pd.DataFrame({"patient": [f"P{place}" for place in range(n)], CD20: values, "os": time, "dead": event})


def associations(patients: pd.DataFrame) -> pd.DataFrame:
    settings = Settings(
        StudyInfo("test"),
        outcomes={"OS": Outcome("os", "dead")},
        splits=Splits(outcome=("median",), marker=("median",)),
    )
    return associate(patients, settings)


def test_C19_cox():
    """In Cox a marker enters as log1p(value) / its SD over the patients analysed."""
    values = [0, 3, 12, 5, 40, 7, 90, 1, 22, 15, 300, 2, math.nan, 9]
    patients = patients_of(values)
    patients.loc[1, "os"] = math.nan  # not analysed, so not in the SD either
    found = associations(patients).query("analysis == 'cox' and split == 'continuous'").iloc[0]
    analysed = patients.dropna()
    logs = np.log1p(analysed[CD20].to_numpy())
    (expected,) = cox(analysed["os"], analysed["dead"], logs / logs.std(ddof=1))
    assert found["n"] == len(analysed) == 12
    assert found["estimate"] == pytest.approx(expected.estimate, rel=1e-9)


# ---- what is missing is said


def test_C20_a_value_is_withheld():
    """A patient's value is NaN if a slide that should show the population has none (`unclear = "withhold"`), and the
    slide is named.
    """
    rows = [("S1", "nest", "tumour", "CD20", 100, 10.0, 1.0), ("S2", "nest", "tumour", "CD20", 100, math.nan, 1.0)]
    names = ["slide", "region", "tissue_class", "population", "cells", "positive_cells", "area_mm2"]
    regions = pd.DataFrame(rows, columns=names)
    slides = pd.DataFrame({"slide": ["S1", "S2"], "patient": "P1"})
    assert study_table(regions, slides, None)[CD20].isna().tolist() == [True]
    assert study_table(regions, slides, None, unclear="leave_out")[CD20].tolist() == [10.0]
    notes = study_notes(regions, slides)
    withheld = notes[notes["note"].str.startswith("withheld")]
    assert set(withheld["slide"]) == {"S2"} and {"tumour", "all"} == set(withheld["tissue_class"])
    other_panel = slides.assign(panel=["one", "two"])  # S2 is not stained for it, so nothing is missing
    shown = study_table(regions[:1], other_panel, None, populations={"CD20": {"one"}})
    assert shown[CD20].tolist() == [10.0]


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


def test_C22_the_patient_is_the_unit():
    """The patient is the unit of every test, never the cell."""
    rng = np.random.default_rng(8)
    names = ["slide", "region", "tissue_class", "population", "cells", "positive_cells", "area_mm2"]
    rows = [  # two slides of each of twelve patients, a thousand cells on each
        (f"P{place}_{half}", "nest", "tumour", "CD20", 1000, float(rng.integers(10, 400)), 1.0)
        for place in range(12)
        for half in range(2)
    ]
    regions = pd.DataFrame(rows, columns=names)
    slides = pd.DataFrame({"slide": regions["slide"], "patient": regions["slide"].str[:-2]})
    clinical = patients_of([0.0] * 12)[["patient", "os", "dead"]]
    found = associations(study_table(regions, slides, clinical))
    assert found["n"].max() == 12
    more = regions.assign(cells=10 * regions["cells"], positive_cells=10 * regions["positive_cells"], area_mm2=10.0)
    again = associations(study_table(more, slides, clinical))
    same = found["measure"] == "density_per_mm2"
    assert found.loc[same, "p"].notna().any()
    pd.testing.assert_frame_equal(found[same], again[same])
