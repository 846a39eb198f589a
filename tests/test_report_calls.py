"""The report's chapter of calls: what is pooled, what is left out, what is said."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
from drawn_report import drawn_study

from mihc.reports.calls import calls_chapter
from mihc.reports.numbers import Numbers
from mihc.studies.settings import Pdl1

SLIDES = pd.DataFrame({"slide": ["S1", "S2", "C"], "patient": ["P1", "P2", ""], "control": ["", "", "negative"]})
PHENOTYPES = {"CD3 B cell": "B cell & CD3+", "B cell": "CD20+", "rare": 'CD3+ "CD3 B cell" "B cell"'}


def chapter(phenotypes: dict[str, str] = PHENOTYPES, pdl1: Pdl1 | None = None, **tables: pd.DataFrame):
    study = drawn_study()
    study = replace(study, settings=replace(study.settings, phenotypes=phenotypes, pdl1=pdl1))
    return calls_chapter(Numbers({"slides": SLIDES, **tables}), study)


def regions(*rows: tuple) -> pd.DataFrame:
    """Rows of (slide, population, cells, positive cells)."""
    table = pd.DataFrame(rows, columns=["slide", "population", "cells", "positive_cells"])
    return table.assign(region="A", tissue_class="tumour", patient="P", area_mm2=1.0, h_score=math.nan)


def test_phenotypes_stand_below_their_parents():
    kinds = chapter().kinds
    assert [(kind.name, kind.depth, kind.others) for kind in kinds] == [
        ("B cell", 0, ()),
        ("CD3 B cell", 1, ()),
        ("rare", 2, ("B cell",)),
    ]


def test_shares_of_a_parent_are_of_slides_that_can_tell_both():
    table = regions(
        ("S1", "B cell", 200, 100),
        ("S1", "CD3 B cell", 200, 10),
        ("S2", "B cell", 300, 50),
        ("S2", "CD3 B cell", 300, math.nan),
    )
    whole, part, rare = chapter(regions=table).kinds
    assert (whole.cells, whole.percent_of_all) == (150, 30.0)
    assert (part.cells, part.percent_of_all, part.percent_of_parent) == (10, 5.0, 10.0)
    assert math.isnan(whole.percent_of_parent) and math.isnan(rare.cells)


PAIR = {
    "pair": "CD3+ CD20+", "first": "CD3+", "second": "CD20+", "cells": 100, "percent_of_either": 1.0,
    "percent_of_all": 1.0, "touching_cells": 4.0, "touching_both_cells": 2.0, "both_cells_uncorrected": math.nan,
    "both_cells_corrected": math.nan, "explanation": "",
}  # fmt: skip


def pair(slide: str, first: float, second: float, both: float, verdict: str) -> dict:
    shares = {"percent_of_first": 100 * both / first, "percent_of_second": 100 * both / second}
    counts = {"first_cells": first, "second_cells": second, "both_cells": both, "chance_cells": 3.0}
    return {**PAIR, "slide": slide, "verdict": verdict, **counts, **shares}


def test_pairs_pool_the_slides_that_count_and_show_the_worst_first():
    rows = [pair("S1", 100, 50, 1, "ok"), pair("S2", 80, 20, 4, "fail"), pair("C", 10, 10, 10, "fail")]
    (found,) = chapter(pairs=pd.DataFrame(rows)).pairs
    assert found.rows == (1, 0)  # not the control
    assert found.verdicts == (("fail", 1), ("ok", 1))
    assert found.told == (
        "At least 7.14 % of the CD20+ cells are wrongly called (5 of 70, 2 slides together); "
        "calls independent of each other would give 6, touching neighbours at most 8."
    )
    assert not found.measured


def test_coexpression_pools_counts_and_never_shares():
    columns = ["slide", "tissue_class", "marker", "other", "positive_cells", "both_cells"]
    rows = [("S1", "tumour", "CD3", "CD8", 10, 5), ("S2", "tumour", "CD3", "CD8", 90, 5)]
    rows += [("S1", "tumour", "CD8", "CD3", 5, 5), ("S2", "tumour", "CD8", "CD3", math.nan, math.nan)]
    (grid,) = chapter(coexpression=pd.DataFrame(rows, columns=columns)).grids
    assert (grid.tissue_class, grid.markers) == ("tumour", ("CD3", "CD8"))
    assert (grid.rows[0][1], grid.rows[1][0]) == (10.0, 100.0)
    assert math.isnan(grid.rows[0][0])


def test_corrections_are_shown_in_percent_of_the_analysed_cells_with_the_slopes_of_the_slides():
    columns = ["slide", "correction", "marker", "cells", "positive_cells_uncorrected", "positive_cells_corrected"]
    rows = [("S1", "spillover", "CD3", 100, 20, 10, "uncorrected", math.nan)]
    rows += [("S2", "spillover", "CD3", 300, 20, 20, "uncorrected", math.nan)]
    rows += [("S2", "spillover", "CD20", 300, math.nan, math.nan, "uncorrected", math.nan)]
    rows += [("S1", "autofluorescence", "CD3", 100, 20, 20, "corrected", 0.2)]
    rows += [("S2", "autofluorescence", "CD3", 300, 20, 12, "corrected", 0.4)]
    found = chapter(corrections=pd.DataFrame(rows, columns=[*columns, "used", "slope"]))
    touching, glow = found.lights
    assert (touching.correction, touching.marker, touching.slides) == ("spillover", "CD3", 2)
    assert (touching.uncorrected, touching.corrected) == (10.0, 7.5) and math.isnan(touching.slopes[1])
    assert (glow.uncorrected, glow.corrected) == (10.0, 8.0)
    assert glow.slopes == pytest.approx((0.2, 0.3, 0.4))
    assert found.corrected_for == ("autofluorescence",)


def test_scores_stand_by_patient_and_say_where_immune_cells_were_counted():
    rows = pd.DataFrame(
        {"patient": ["P1", "P1", "P1", "P2", "P2"], "slide": ["", "S1", "S2", "", "S3"], "note": ["", "", "x", "", ""]}
    )
    found = chapter(pdl1=Pdl1("PD-L1", "PanCK+", "CD3+", 500.0))
    assert "of stroma within 500 µm" in " ".join(found.scored)
    study = drawn_study()
    scores = calls_chapter(Numbers({"slides": SLIDES, "pdl1": rows}), study)
    assert [(one.patient, one.pooled, one.slides) for one in scores.scores] == [("P1", 0, (1, 2)), ("P2", 3, (4,))]
    assert scores.noted


@pytest.mark.parametrize("phenotypes", [{}, {"odd": "nobody+"}])
def test_a_study_without_any_of_it_shows_nothing(phenotypes):
    found = chapter(phenotypes)
    assert found.any == bool(phenotypes)  # a phenotype is shown, whatever its expression
