"""A drawn study: its files are what a person would write, its truth is what can be counted in them."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile

from mihc.drawing.files import halved, write_halo, write_qupath
from mihc.drawing.study import plan_study
from mihc.errors import InputError
from mihc.regions import map_classes, partition, read_regions
from mihc.slide import open_slide
from mihc.study import check_study
from mihc.synthetic import (
    INDEPENDENT,
    compare_with_truth,
    comparison_summary,
    draw_follow_up,
    draw_mosaic,
    draw_samples,
    draw_slide,
    draw_study,
    redraw_follow_up,
)

SIZE_PX = (320, 320)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    with ThreadPoolExecutor(2) as executor:
        return draw_study(folder, patients=6, seed=2, size_px=SIZE_PX, executor=executor)


def test_a_drawn_study_passes_mihc_check(study):
    assert [problem for problem in check_study(study) if problem.severity == "error"] == []


def test_truth_counts_are_those_of_the_cells(study):
    regions = pd.read_csv(study / "truth" / "regions.csv", dtype={"patient": str}, keep_default_na=False)
    one = regions[(regions["slide"] == "S02") & (regions["region"] == "tumour")].set_index("population")
    cells = pd.read_parquet(study / "truth" / "cells" / "S02.parquet")
    here = cells[cells["region"] == "tumour"]
    assert one.loc["CD20", "cells"] == len(here)
    assert one.loc["CD3", "positive_cells"] == here["CD3_positive"].sum()
    both = here["CD20_positive"] & here["Ki67_positive"]
    assert one.loc["proliferating B cell", "positive_cells"] == both.sum()
    labels = tifffile.imread(study / "truth" / "nuclei" / "S02.tif")
    assert np.array_equal(np.unique(labels)[1:], cells["cell"])


def test_annotations_hold_the_planted_areas_exactly(study):
    truth = pd.read_csv(study / "truth" / "regions.csv", keep_default_na=False)
    areas = (
        truth[truth["annotations"] != ""]
        .drop_duplicates(["slide", "region"])
        .set_index(["slide", "region"])["area_mm2"]
    )
    classes = {"Tumor": "tumour", "Stroma": "stroma", "Necrosis": "excluded", "Fold": "excluded"}
    names = {"Tumor": "tumour", "Stroma": "stroma", "Necrosis": "necrosis", "Fold": "fold"}
    files = sorted((study / "annotations").iterdir())
    assert {file.suffix for file in files} == {".geojson", ".annotations"}
    for file in files:
        regions = map_classes(read_regions(file, pixel_size_um=0.5), classes)
        for region in partition(regions, scanned=shapely.box(0, 0, 160, 160)):
            assert region.area_mm2 == pytest.approx(areas[file.stem, names[region.name]], rel=1e-9)


def test_the_control_belongs_to_no_patient_and_carries_no_marker(study):
    slides = pd.read_csv(study / "slides.csv", dtype=str, keep_default_na=False).set_index("slide")
    assert slides.loc["CONTROL"].tolist() == ["slides/CONTROL.ome.tif", "", "negative"]
    assert not pd.read_parquet(study / "truth" / "cells" / "CONTROL.parquet").filter(like="_positive").to_numpy().any()


def test_slides_open_with_channel_names_pixel_size_and_pyramid(study):
    with open_slide(study / "slides" / "S01.ome.tif") as slide:
        assert slide.channels == ("DAPI", "PanCK", "CD3", "CD8", "CD20", "CD21", "Ki67", "AF")
        assert slide.pixel_size_um == (0.5, 0.5)
        assert tuple(slide.image.shape) == (8, *SIZE_PX)


def test_the_order_in_which_slides_are_drawn_changes_nothing(study, tmp_path):
    again = draw_study(tmp_path / "again", patients=6, seed=2, size_px=SIZE_PX)
    for name in ("slides/S03.ome.tif", "annotations/S05.annotations", "clinical.csv", "truth/regions.csv"):
        assert (again / name).read_bytes() == (study / name).read_bytes(), name


def test_what_is_planted_beside_b_cells_is_uncorrelated_with_them_over_the_patients():
    recipes = {recipe.patient: recipe for recipe in plan_study(36, seed=7) if recipe.patient}
    asked = pd.DataFrame([vars(recipe.densities) for recipe in recipes.values()])
    logged = np.log(
        asked[["b_tumour", "t_tumour", "t_stroma", "cd8_share", "ki67_tumour", "ki67_stroma", "cells_tumour"]]
    )
    assert logged["b_tumour"].std() > 0.7
    assert logged.corr()["b_tumour"].drop("b_tumour").abs().max() < 0.1
    radius = pd.Series([r.layout.aggregate_radius_um * r.layout.aggregates for r in recipes.values()])
    assert abs(radius.corr(logged["b_tumour"])) < 0.25


def as_measured(study, tmp_path, change=lambda regions: regions):
    """A copy of the study's truth whose results are the truth itself, changed."""
    folder = tmp_path / "copy"
    (folder / "results").mkdir(parents=True)
    (folder / "truth").symlink_to(study / "truth")
    regions = pd.read_csv(study / "truth" / "regions.csv", dtype={"patient": str}, keep_default_na=False)
    kept = regions[regions["tissue_class"].isin(["tumour", "stroma"])].drop(columns=["annotations", "control"])
    change(kept.copy()).to_csv(folder / "results" / "regions.csv", index=False)
    return compare_with_truth(folder)


def test_results_equal_to_the_truth_are_within_every_limit(study, tmp_path):
    table = as_measured(study, tmp_path)
    assert set(table["verdict"]) == {"ok", "too few"}
    judged = table[table["verdict"] == "ok"]
    assert set(judged.loc[judged["slide"] == "", "population"]) >= {"CD3", "CD20", "PanCK", "Ki67"}
    assert set(table["quantity"]) >= {"cells", "positivity_percent", "density_per_mm2", "annotated area_mm2"}
    assert table["error"].abs().max() == 0
    assert "miss" not in comparison_summary(table)


def test_four_percent_too_many_cells_are_a_miss(study, tmp_path):
    def inflated(regions):
        return regions.assign(cells=(regions["cells"] * 1.04).round(), positive_cells=regions["positive_cells"] * 1.04)

    table = as_measured(study, tmp_path, inflated)
    pooled = table[(table["slide"] == "") & (table["tissue_class"] == "all")].set_index(["quantity", "population"])
    assert pooled.loc[("cells", ""), "verdict"] == "miss"
    assert pooled.loc[("cells", ""), "error"] == pytest.approx(4.0, abs=0.15)
    assert pooled.loc[("density_per_mm2", "CD3"), "error"] == pytest.approx(4.0)
    assert pooled.loc[("positivity_percent", "CD3"), "verdict"] == "ok"
    assert "cells: 0 of 3" in comparison_summary(table)


def test_a_withheld_slide_is_left_out_on_both_sides_and_named(study, tmp_path):
    def withheld(regions):
        gone = (regions["slide"] == "S01") & (regions["population"] == "PanCK")
        return regions.assign(positive_cells=regions["positive_cells"].mask(gone))

    table = as_measured(study, tmp_path, withheld)
    panck = table[(table["population"] == "PanCK") & (table["tissue_class"] == "all")]
    panck = panck[panck["quantity"] == "density_per_mm2"].set_index("slide")
    assert panck.loc["S01", "verdict"] == "not measured"
    assert panck.loc["", "verdict"] == "ok"
    assert panck.loc["", "note"] == "1 of 7 slides withheld"


def test_a_folder_without_results_is_refused(study):
    with pytest.raises(InputError, match=r"no regions\.csv"):
        compare_with_truth(study)


def test_follow_up_times_are_possible():
    follow_up = draw_follow_up(np.geomspace(20, 2000, 400), hazard_ratio=0.4, seed=1)
    assert (follow_up["pfs_months"] > 0).all()
    assert (follow_up["pfs_months"] <= follow_up["os_months"]).all()
    assert (follow_up["pfs_event"] >= follow_up["os_event"]).all()
    assert 0.15 < 1 - follow_up["os_event"].mean() < 0.45
    assert set(follow_up["best_response"]) == {"CR", "PR", "SD", "PD", "NE"}
    median = follow_up.groupby("best_response")["pfs_months"].median()
    assert median["CR"] > median["PR"] > median["SD"] > median["PD"] > median["NE"]


def test_the_same_seed_draws_the_same_follow_up():
    density = pd.Series([10.0, 200.0, 3000.0], index=["007", "008", "x"])
    one, two, other = (draw_follow_up(density, hazard_ratio=0.5, seed=seed) for seed in (4, 4, 5))
    assert one.equals(two)
    assert not one.equals(other)
    assert one["patient"].tolist() == ["007", "008", "x"]


@pytest.mark.parametrize(("endpoint", "hazard_ratio"), [("pfs", 0.4), ("os", 0.4), ("pfs", 1.0), ("os", 2.0)])
def test_a_cox_model_recovers_the_planted_hazard_ratio(endpoint, hazard_ratio):
    # lifelines as the oracle; over 8 follow-ups the mean of (estimate - planted) / se has an SD of 1 / sqrt(8) = 0.35
    from lifelines import CoxPHFitter

    density = np.random.default_rng(3).lognormal(5, 0.9, 400)
    off, off_liver = [], []
    for seed in range(8):
        follow_up = draw_follow_up(density, hazard_ratio=hazard_ratio, seed=seed)
        frame = pd.DataFrame({"time": follow_up[f"{endpoint}_months"], "event": follow_up[f"{endpoint}_event"]})
        frame["marker"] = np.log1p(density) / np.log1p(density).std(ddof=1)
        frame["liver"] = (follow_up["liver_metastasis"] == "yes").astype(float)
        model = CoxPHFitter().fit(frame, "time", "event")
        error = model.params_ - pd.Series({"marker": np.log(hazard_ratio), "liver": np.log(1.4)})
        off.append((error / model.standard_errors_)["marker"])
        off_liver.append((error / model.standard_errors_)["liver"])
        assert model.standard_errors_["marker"] < 0.1  # so that a hazard ratio of 0.5 for 0.4 would be seen
    assert abs(np.mean(off)) < 1.1
    assert abs(np.mean(off_liver)) < 1.1


def test_a_new_follow_up_keeps_the_patients_and_their_order(study):
    before = (study / "clinical.csv").read_bytes()
    redrawn = redraw_follow_up(study, seed=99)
    patients = pd.read_csv(study / "truth" / "patients.csv", dtype={"patient": str})["patient"]
    assert redrawn["patient"].tolist() == patients.tolist()
    assert (study / "clinical.csv").read_bytes() != before
    assert redraw_follow_up(study, seed=2) is not None
    assert (study / "clinical.csv").read_bytes() == before


def test_planted_facts_name_what_is_independent(study):
    planted = json.loads((study / "truth" / "planted.json").read_text(encoding="utf-8"))
    assert planted["population"] == "CD20"
    assert tuple(planted["independent"]) == INDEPENDENT
    assert not set(planted["independent"]) & set(planted["related"])


def test_halves_by_hand():
    # (1 + 2 + 3 + 4) / 4 = 2.5 rounds up to 3; the odd column is left out
    image = np.array([[[1, 2, 9], [3, 4, 9]]], np.uint16)
    assert halved(image).tolist() == [[[3]]]


@pytest.mark.parametrize(("writer", "name"), [(write_qupath, "a.geojson"), (write_halo, "a.annotations")])
def test_an_island_in_a_hole_survives_the_annotation_format(writer, name, tmp_path):
    ring = shapely.box(0, 0, 20, 20) - shapely.box(4, 4, 16, 16)
    shape = shapely.union_all([ring, shapely.box(8, 8, 12, 12)])
    writer(tmp_path / name, [("Stroma", shape)], 0.5)
    (region,) = read_regions(tmp_path / name, pixel_size_um=0.5)
    assert region.polygon_um.area == 400 - 144 + 16
    assert region.polygon_um.equals(shape)


def test_a_mosaic_is_its_tile_repeated_at_every_level(tmp_path):
    path = draw_mosaic(tmp_path / "big.ome.tif", size=(1024, 1536), tile=512, levels=1, channels=["DAPI", "A"])
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        full, half = (level.asarray() for level in series.levels)
    assert full.shape == (2, 1024, 1536)
    assert np.array_equal(full, np.tile(full[:, :512, :512], (1, 2, 3)))
    assert np.array_equal(half, halved(full))
    with open_slide(path) as slide:
        assert slide.channels == ("DAPI", "A")
        assert slide.pixel_size_um == (0.5, 0.5)


def test_a_mosaic_that_its_tile_does_not_divide_is_refused(tmp_path):
    with pytest.raises(ValueError, match="multiple of tile"):
        draw_mosaic(tmp_path / "big.ome.tif", size=(1000, 1024), tile=512, levels=1)


def test_the_sample_slides_are_small_and_carry_their_truth(tmp_path):
    draw_samples(tmp_path)
    for name, kind in (("nests.ome.tif", "OME-TIFF"), ("aggregate.qptiff", "QPTIFF")):
        assert (tmp_path / name).stat().st_size < 4_000_000
        with open_slide(tmp_path / name) as slide:
            assert slide.format == kind
            assert slide.channels[4] == "CD20"
            assert slide.pixel_size_um == (0.5, 0.5)
            shape = tuple(slide.image.shape[1:])
        stem = name.split(".")[0]
        labels = tifffile.imread(tmp_path / "truth" / f"{stem}.nuclei.tif")
        cells = pd.read_csv(tmp_path / "truth" / f"{stem}.cells.csv")
        assert labels.shape == shape
        assert np.array_equal(np.unique(labels)[1:], cells["cell"])
        assert (tmp_path / "truth" / f"{stem}.regions.geojson").exists()
    drawn = draw_slide(seed=1, size_px=(128, 128))
    assert drawn.image.dtype == np.uint16
