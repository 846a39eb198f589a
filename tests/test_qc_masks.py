"""Quality by windows: faults that were drawn are found where they are, and nothing where none was drawn."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import shapely
from scipy import ndimage, stats

from mihc.areas.exclusions import excluded_regions
from mihc.cells import FLAGS
from mihc.drawing.files import write_ome_tiff, write_qupath
from mihc.nuclei import segment_nuclei
from mihc.pipeline import run
from mihc.qc import Level, audit_seams, cells_qc, examine, picture_qc
from mihc.quality.fields import near
from mihc.quality.flaws import FLAWS, OUT_OF_FOCUS, find_flaws
from mihc.quality.focus import WINDOW_UM
from mihc.quality.light import FEWEST_WINDOWS, shading
from mihc.quality.rows import seam_rows, size_rows
from mihc.regions import Region, area_ledger, assign_regions, mask_to_polygons, partition, tissue_mask
from mihc.studies.settings import EXCLUDABLE, Quality
from mihc.studies.toml import parse_settings
from mihc.study import read_study
from mihc.synthetic import Faults, Layout, add_faults, draw_slide

ROLES = ("nuclei", "tumour", "marker", "marker", "marker", "marker", "marker", "autofluorescence")
PIXEL = (2.0, 2.0)


def smaller(image, factor):
    """Means of factor x factor pixels."""
    c, y, x = image.shape
    means = image.reshape(c, y // factor, factor, x // factor, factor).mean(axis=(2, 4), dtype=np.float64)
    return np.rint(means).astype(np.uint16)


def looked_over(image, channels, *, pixel_um=0.5, nucleus_um=8.0):
    """What `examine` sees; the levels are those nearest to 2 and 1 µm per pixel of a pyramid that halves."""
    coarse, fine = (smaller(image, max(1, round(target / pixel_um))) for target in (2.0, 1.0))
    size, half = (pixel_um * (image.shape[1] // level.shape[1]) for level in (coarse, fine))
    overview = SimpleNamespace(pixels=coarse, pixel_size_um=(size, size), channels=channels)
    tissue = tissue_mask(coarse, size, ROLES)
    near_2_um, near_1_um = Level(coarse, (size, size)), Level(fine, (half, half))
    seen = examine(
        overview,
        tissue=tissue,
        roles=ROLES,
        near_2_um=near_2_um,
        near_1_um=near_1_um,
        ceiling=65535.0,
        nucleus_diameter_um=nucleus_um,
    )
    return overview, seen


def painted(polygon, shape):
    y, x = ((np.arange(n) + 0.5) * 2.0 for n in shape)
    return shapely.contains_xy(polygon, *np.meshgrid(x, y))


def overlap(found, truth):
    return (found & truth).sum() / (found | truth).sum()


@pytest.fixture(scope="module")
def drawn():
    return draw_slide(seed=11, layout=Layout(aggregates=3))


@pytest.fixture(scope="module")
def faulty(drawn):
    return add_faults(drawn, Faults(bubbles=1, debris=3, bubble_radius_um=70), seed=2)


@pytest.fixture(scope="module")
def seen(faulty):
    return looked_over(faulty[0].image, faulty[0].channels)[1]


@pytest.mark.parametrize(("name", "least"), [("bubble", 0.8), ("debris", 0.5)])
def test_bubbles_and_debris_are_found_where_they_were_drawn(faulty, seen, name, least):
    truth = painted(faulty[1][name], seen.tissue.shape)
    assert overlap(seen.masks[name], truth) > least
    assert ndimage.label(seen.masks[name])[1] == {"bubble": 1, "debris": 3}[name]
    assert not (seen.masks[name] & ~near(truth, 10.0, 2.0)).any()


@pytest.mark.parametrize("seed", [0, 3, 11])
def test_nothing_is_found_on_sound_tissue(seed):
    slide = draw_slide(seed=seed, layout=Layout(aggregates=3))
    seen = looked_over(slide.image, slide.channels)[1]
    assert {name: int(mask.sum()) for name, mask in seen.masks.items()} == dict.fromkeys(EXCLUDABLE, 0)
    assert (seen.focus.sharpness > 0.9).all()


def test_a_hole_in_tissue_is_no_bubble(drawn):
    """A round lumen is dim in every channel, but has no bright rim."""
    image = smaller(drawn.image, 4)
    y, x = np.mgrid[:256, :256]
    tissue = tissue_mask(image, 2.0, ROLES)
    at = np.unravel_index(np.argmax(ndimage.distance_transform_edt(np.pad(tissue, 1))), (258, 258))
    lumen = (y - at[0]) ** 2 + (x - at[1]) ** 2 < 35**2
    image[:, lumen] = np.quantile(image, 0.01, axis=(1, 2)).astype(np.uint16)[:, None]
    assert not find_flaws(image, tissue_mask(image, 2.0, ROLES), 2.0)["bubble"].any()


def test_fewer_than_three_channels_cannot_tell_debris_from_cells(faulty):
    overview, _ = looked_over(faulty[0].image, faulty[0].channels)
    assert find_flaws(overview.pixels[:2], np.ones((256, 256), bool), 2.0) == {}


@pytest.fixture(scope="module")
def striped():
    slide = draw_slide(seed=4, size_px=(1024, 2048))
    return add_faults(slide, Faults(stripe_um=560, stripe_blur_um=4.0), seed=1)


def test_windows_out_of_focus_are_found_and_their_cells_flagged(striped):
    slide, places = striped
    seen = looked_over(slide.image, slide.channels)[1]
    x0, _, x1, _ = places[OUT_OF_FOCUS].bounds
    left = np.arange(4) * WINDOW_UM
    inside, beyond = (left >= x0) & (left + WINDOW_UM <= x1), (left + WINDOW_UM <= x0) | (left >= x1)
    assert inside.any() and beyond.any()
    assert seen.focus.blurred[:, inside].all() and not seen.focus.blurred[:, beyond].any()
    x = slide.table["x_um"].to_numpy()
    flagged = seen.focus.holds(x, slide.table["y_um"].to_numpy())
    column = (x // WINDOW_UM).astype(int)
    assert flagged[inside[column]].all() and not flagged[beyond[column]].any()
    assert FLAGS["out_of_focus"] == 4


def test_a_slide_in_which_debris_lies_is_not_called_blurred(faulty, seen):
    assert not seen.focus.blurred.any()


def test_light_is_found_as_it_was_changed(drawn):
    overview, _ = looked_over(drawn.image, drawn.channels)
    tissue = np.ones((256, 256), bool)
    windows = np.full((6, 8), 400.0) * 2 ** np.linspace(0, 1, 8)  # doubles from left to right
    found = shading(windows, overview.pixels[0] * 0 + np.float32(400), tissue)
    assert found.percent == pytest.approx(100, rel=0.02) and found.explained > 0.99
    patchy = 400.0 * 2 ** np.random.default_rng(0).normal(0, 0.3, (6, 8))
    assert shading(patchy, overview.pixels[0], tissue).explained < 0.5
    assert shading(windows[:1], overview.pixels[0], tissue) is None and windows[:1].size < FEWEST_WINDOWS


@pytest.mark.parametrize(("factor", "verdict"), [(0.5, "warn"), (1.0, "ok"), (2.0, "warn")])
def test_a_pixel_size_typed_off_by_two_raises_a_warning(drawn, factor, verdict):
    """Twice as large, nuclei are cut to the expected size and their diameter looks right: the stain's spots do not."""
    _, seen = looked_over(drawn.image, drawn.channels, pixel_um=0.5 * factor)
    ((check, value, unit, told, said),) = size_rows(seen, 8.0)
    assert (check, unit, told) == ("size of nuclear spots", "µm", verdict)
    assert value == pytest.approx(7.5 * factor, rel=0.2)
    assert ("pixel size" in said) == (verdict == "warn")


def test_nuclei_that_are_said_to_be_large_are_neither_blurred_nor_a_wrong_pixel_size(drawn):
    _, seen = looked_over(drawn.image, drawn.channels, pixel_um=1.0, nucleus_um=15.0)
    assert not seen.focus.blurred.any() and seen.focus.overall > 0.9
    assert [row[3] for row in size_rows(seen, 15.0)] == ["ok"]


# ---- seams


@pytest.fixture(scope="module")
def segmented():
    slide = draw_slide(seed=6, size_px=(2048, 2048))
    labels = segment_nuclei(slide.image[0], pixel_size_um=0.5)
    return slide, centroids(labels)


def centroids(labels):
    names = np.unique(labels)[1:]
    return np.array(ndimage.center_of_mass(labels > 0, labels, names)) * 0.5 + 0.25


def audited(points, shape=(512, 512)):
    tissue = np.ones(shape, bool)
    y, x = points.T
    return audit_seams(x, y, tissue, tissue_pixel_um=PIXEL, pixel_size_um=(0.5, 0.5), step_px=512)


def test_the_seam_audit_is_silent_on_our_segmentation(segmented):
    found = audited(segmented[1])
    assert found.low < 1 < found.high
    assert [row[3] for row in seam_rows(found)] == ["ok"]


def test_the_seam_audit_fires_where_cells_are_lost_at_seams(segmented):
    """Windows of 512 pixels computed each for itself, cells at their edges left out."""
    slide, _ = segmented
    kept = []
    for y in range(0, 2048, 512):
        for x in range(0, 2048, 512):
            labels = segment_nuclei(slide.image[0, y : y + 512, x : x + 512], pixel_size_um=0.5)
            edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
            labels[np.isin(labels, edge)] = 0
            kept.append(centroids(labels) + np.array([y, x]) * 0.5)
    found = audited(np.concatenate(kept))
    ((_, value, _, verdict, said),) = seam_rows(found)
    assert verdict == "fail" and value < 0.9 and found.window_px == 512
    assert "lost" in said


def test_the_seam_audits_interval_is_that_of_two_poisson_counts():
    """scipy.stats.binomtest(30, 110): the exact interval of the share that is near, as a ratio of densities."""
    share = stats.binomtest(30, 110).proportion_ci(0.999, method="exact")
    tissue = np.ones((60, 600), bool)  # 1 µm pixels, one seam at x = 300: 40 µm near, 80 µm beside
    x = np.concatenate([np.full(30, 310.0), np.full(80, 340.0)])
    found = audit_seams(
        x, np.full(110, 30.0), tissue, tissue_pixel_um=(1.0, 1.0), pixel_size_um=(1.0, 1.0), step_px=300
    )
    assert (found.cells, found.window_px, found.ratio) == (30, 300, pytest.approx(0.75))
    low, high = (2 * end / (1 - end) for end in share)  # twice as much area beside the seam as near it
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-9), pytest.approx(high, rel=1e-9))


def test_a_slide_of_one_window_has_no_seams():
    tissue = np.ones((50, 50), bool)
    at = np.full(5, 20.0)
    assert audit_seams(at, at, tissue, tissue_pixel_um=PIXEL, pixel_size_um=(0.5, 0.5), step_px=1024) is None


# ---- what is found becomes excluded area


def test_masks_are_excluded_by_name_and_can_be_switched_off(seen):
    found = excluded_regions(seen.masks, pixel_size_um=PIXEL, exclude=Quality().exclude)
    assert [(region.name, region.tissue_class) for region in found] == [("debris", "excluded"), ("bubble", "excluded")]
    assert found[1].area_mm2 == pytest.approx(seen.area_mm2("bubble"), rel=1e-12)
    assert excluded_regions(seen.masks, pixel_size_um=PIXEL, exclude=()) == []


def test_an_annotated_region_is_its_outline_less_what_is_excluded(faulty, seen):
    slide, _ = faulty
    scanned = shapely.box(0, 0, 512, 512)
    annotated = [Region("T", "tumour", shapely.box(30, 30, 480, 480))]
    found = excluded_regions(seen.masks, pixel_size_um=PIXEL, exclude=FLAWS, outlined=annotated)
    parts = partition([*annotated, *found], scanned=scanned)
    taken = shapely.union_all([region.polygon_um for region in found])
    areas = {part.name: part.polygon_um.area for part in parts}
    assert areas["T"] == pytest.approx(annotated[0].polygon_um.difference(taken).area, rel=1e-12)
    x, y = slide.table["x_um"].to_numpy(), slide.table["y_um"].to_numpy()
    cells = slide.table[["x_um", "y_um"]].join(assign_regions(x, y, [*annotated, *found]))
    tissue = mask_to_polygons(seen.tissue, pixel_size_um=PIXEL)
    ledger = area_ledger("S01", parts, scanned=scanned, tissue=tissue, cells=cells)  # raises where it does not sum
    excluded = ledger[ledger["category"] == "excluded"].set_index("region")
    assert excluded.loc["bubble", "area_mm2"] == pytest.approx(seen.area_mm2("bubble"), rel=1e-9)
    assert excluded.loc["bubble", "cells"] == (cells["region"] == "bubble").sum() > 0


def test_what_a_person_outlined_as_excluded_is_not_excluded_twice(seen):
    drawn = Region("dust", "excluded", mask_to_polygons(near(seen.masks["debris"], 6.0, 2.0), pixel_size_um=PIXEL))
    found = excluded_regions(seen.masks, pixel_size_um=PIXEL, exclude=FLAWS, outlined=[drawn])
    assert [region.name for region in found] == ["bubble"]
    kept = replace(drawn, tissue_class="tumour")
    assert len(excluded_regions(seen.masks, pixel_size_um=PIXEL, exclude=FLAWS, outlined=[kept])) == 2


def test_every_mask_has_a_row_with_its_area_and_whether_it_counts(striped):
    slide, _ = striped
    overview, seen = looked_over(slide.image, slide.channels)
    parts = partition([], scanned=shapely.box(0, 0, 1024, 512))
    cells = slide.table.assign(region="outside", tissue_class="outside")
    tissue = mask_to_polygons(seen.tissue, pixel_size_um=PIXEL)
    ledger = area_ledger("S01", parts, scanned=shapely.box(0, 0, 1024, 512), tissue=tissue, cells=cells)
    for exclude, said in (((), "counted as they are"), (EXCLUDABLE, "excluded from every number")):
        looks = picture_qc("S01", overview, {}, findings=seen, roles=ROLES, exclude=exclude)
        rows = pd.concat([looks, cells_qc("S01", cells, ledger)]).set_index("check")
        assert rows.loc["out of focus", "value"] == seen.area_mm2(OUT_OF_FOCUS) > 0.1
        assert rows.loc["out of focus", "verdict"] == "warn" and said in rows.loc["out of focus", "explanation"]
        assert (rows.loc[["folds", "debris", "bubbles"], "value"] == 0).all()


PANEL = """channel,marker,role,compartment,threshold,colour
DAPI,DAPI,nuclei,nucleus,,0000FF
PanCK,PanCK,tumour,cell,500,00FF00
CD3,CD3,marker,cell,500,FF0000
CD8,CD8,marker,cell,500,FFFF00
AF,AF,autofluorescence,cell,,888888
"""


@pytest.fixture
def study(tmp_path):
    """A function that writes a study of one slide, annotated or not, and returns its folder."""

    def write(slide, *, annotated=(), blank="", toml=""):
        channels = [line.split(",")[0] for line in PANEL.splitlines()[1:]]
        image = slide.image[[slide.channels.index(channel) for channel in channels]].copy()
        image[[channel == blank for channel in channels]] = 0
        write_ome_tiff(tmp_path / "S01.ome.tiff", image, channels=channels, pixel_size_um=0.5)
        (tmp_path / "study.toml").write_text(f'[study]\nname = "x"\n{toml}')
        (tmp_path / "panel.csv").write_text(PANEL)
        (tmp_path / "slides.csv").write_text("slide,file,patient\nS01,S01.ome.tiff,P01\n")
        if annotated:
            (tmp_path / "annotations").mkdir(exist_ok=True)
            write_qupath(tmp_path / "annotations" / "S01.geojson", annotated, 0.5)
        return tmp_path

    return write


def test_masks_reach_the_ledger_of_an_annotated_slide_and_can_be_switched_off(study, faulty):
    box = shapely.box(20, 20, 490, 490)
    folder = study(faulty[0], annotated=[("Tumor", box)])
    assert run(read_study(folder), until="positives").failed == {}
    ledger = pd.read_csv(folder / "results/.stages/regions/S01.area_ledger.csv").set_index(["category", "region"])
    taken = ledger.loc["excluded"]
    assert set(taken.index) == {"bubble", "debris"} and (taken["cells"] > 0).any()
    assert ledger.loc[("tumour", "Tumor"), "area_mm2"] == pytest.approx(
        (box.area / 1e6) - taken["area_mm2"].sum(), rel=1e-9
    )
    cells = pd.read_parquet(folder / "results/cells/S01.parquet")
    assert set(cells.loc[cells["tissue_class"] == "excluded", "region"]) <= {"bubble", "debris"}
    assert not (cells["flags"] & FLAGS["out_of_focus"]).any()
    study(faulty[0], annotated=[("Tumor", box)], toml="[qc]\nexclude = []\n")
    again = run(read_study(folder), until="positives")
    assert {step.stage for step in again.steps if step.why != "reused"} == {
        "outlines",
        "regions",
        "values",
        "positives",
    }
    ledger = pd.read_csv(folder / "results/.stages/regions/S01.area_ledger.csv").set_index("category")
    assert "excluded" not in ledger.index
    assert ledger.loc["tumour", "area_mm2"] == pytest.approx(box.area / 1e6, rel=1e-12)


def test_cells_out_of_focus_are_flagged_in_the_cells_table(study, striped):
    folder = study(striped[0])
    assert run(read_study(folder), until="positives").failed == {}
    cells = pd.read_parquet(folder / "results/cells/S01.parquet")
    flagged = (cells["flags"] & FLAGS["out_of_focus"]) > 0
    windows = pd.read_csv(folder / "results/.stages/regions/S01.qc_windows.csv")
    blurred = windows[windows["out_of_focus"]]
    assert len(blurred) and flagged.any() and not flagged.all()
    inside = pd.Series(False, index=cells.index)
    for row in blurred.itertuples():
        inside |= cells["x_um"].between(row.x_um, row.x_um + row.width_um, inclusive="left") & cells["y_um"].between(
            row.y_um, row.y_um + row.height_um, inclusive="left"
        )
    assert inside.equals(flagged)


def test_SL25_an_all_zero_channel_is_refused_unless_the_study_allows_it(study, drawn):
    folder = study(drawn, blank="CD8")
    failed = run(read_study(folder), until="slide").failed
    assert "blank channel" in failed["S01"] and "CD8" in failed["S01"] and "allow_blank" in failed["S01"]
    study(drawn, blank="CD8", toml="[qc]\nallow_blank = true\n")
    assert run(read_study(folder), until="regions").failed == {}
    qc = pd.read_csv(folder / "results/.stages/regions/S01.qc.csv").set_index("check")
    assert qc.loc["signal: CD8", "verdict"] == "warn" and "blank" in qc.loc["signal: CD8", "explanation"]


# ---- study.toml and the drawing itself


def test_qc_keys_of_the_study_are_read_and_unknown_ones_named():
    assert (*FLAWS, OUT_OF_FOCUS) == EXCLUDABLE
    settings, problems = parse_settings('[study]\nname = "x"\n[qc]\nexclude = ["out of focus"]\nallow_blank = true\n')
    assert (problems, settings.qc) == ([], Quality(("out of focus",), True))
    settings, problems = parse_settings('[study]\nname = "x"\n[qc]\nexclude = []\n')
    assert (problems, settings.qc.exclude) == ([], ())
    _, problems = parse_settings('[study]\nname = "x"\n[qc]\nexclude = ["folds"]\nexcludes = 1\nallow_blank = "no"\n')
    assert len(problems) == 3
    told = " ".join(str(problem) for problem in problems)
    assert "did you mean fold" in told and "did you mean exclude" in told and "true or false" in told


def test_faults_change_only_what_they_cover_and_none_change_nothing(drawn, faulty):
    same, places = add_faults(drawn, Faults(), seed=5)
    assert same is drawn or np.array_equal(same.image, drawn.image)
    assert places == {}
    slide, places = faulty
    changed = (slide.image != drawn.image).any(axis=0)
    y, x = ((np.arange(n) + 0.5) * 0.5 for n in changed.shape)
    covered = shapely.contains_xy(shapely.union_all(list(places.values())).buffer(8), *np.meshgrid(x, y))
    assert changed.any() and not (changed & ~covered).any()
    assert sum(region.area_mm2 for region in slide.regions) == pytest.approx(512 * 512 / 1e6, rel=1e-9)
    again, _ = add_faults(drawn, Faults(bubbles=1, debris=3, bubble_radius_um=70), seed=2)
    assert np.array_equal(again.image, slide.image)


def test_vignetting_darkens_the_corners_of_each_camera_field(drawn):
    dimmed, _ = add_faults(drawn, Faults(vignette=0.4, field_um=256.0), seed=1)
    ratio = (dimmed.image[0].astype(float) - 110) / np.maximum(drawn.image[0].astype(float) - 110, 1)
    assert np.median(ratio[:20, :20]) == pytest.approx(0.6, abs=0.03)
    assert np.median(ratio[246:266, 246:266]) == pytest.approx(1.0, abs=0.03)
