"""The report of 100 slides, made of what a run gives its report: every picture is in it, and it can be mailed."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from browser import tab

import mihc
from mihc.associate import associate, family_table
from mihc.report import write_report
from mihc.steps import tell
from mihc.synthetic import draw_study

SLIDES, PATIENTS = 100, 90  # ten patients have two slides
OF_COHORT = {"splits", "dropout", "robustness", "robustness_summary", "batches", "history"}
OF_PATIENTS = {"patients", "influence"}


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> dict:
    """What the run of six drawn patients' slides, 1024 pixels wide, gave to its report."""
    folder = draw_study(tmp_path_factory.mktemp("few") / "study", patients=6)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tell, "write_report", lambda folder, **parts: found.update(parts) or write_report(folder, **parts)
        )
        assert mihc.run(mihc.read_study(folder)).failed == {}
    return found


def patient_of(number: int) -> str:
    return f"{number % PATIENTS + 1:03d}"


def hundredfold(given: dict) -> dict:
    """The same for 100 slides of 90 patients: every slide's rows and picture again under other names."""
    slides = [name for name, control in given["tables"]["slides"][["slide", "control"]].itertuples(index=False)
              if not control]  # fmt: skip
    origins = [slides[number % len(slides)] for number in range(SLIDES)]
    tables = {}
    for name, table in given["tables"].items():
        if name in OF_COHORT | {"statistics", "families"} or table.empty:
            tables[name] = table
        elif name in OF_PATIENTS:
            tables[name] = repeated_patients(table)
        else:
            rows = {slide: mine for slide, mine in table.groupby("slide", sort=False)}
            parts = [rows[slide].assign(slide=f"S{number + 1:03d}") for number, slide in enumerate(origins)
                     if slide in rows]  # fmt: skip
            tables[name] = pd.concat(parts or [table], ignore_index=True)
            if "patient" in table:
                numbers = tables[name]["slide"].str[1:].astype(int) - 1
                tables[name]["patient"] = numbers.map(patient_of)
    tables["statistics"] = associate(tables["patients"], given["study"].settings)
    tables["families"] = family_table(tables["statistics"])
    pictures = {picture.slide: picture for picture in given["pictures"]}
    again = [replace(pictures[slide], slide=f"S{number + 1:03d}") for number, slide in enumerate(origins)]
    return {**given, "tables": tables, "pictures": again}


def repeated_patients(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of as many patients, those of the few again and again, a little moved so that no two values are equal."""
    names = list(dict.fromkeys(table["patient"]))
    rng = np.random.default_rng(0)
    parts = []
    for number in range(PATIENTS):
        mine = table[table["patient"] == names[number % len(names)]].assign(patient=f"{number + 1:03d}")
        values = mine.select_dtypes("float").loc[:, lambda frame: ~frame.isin([0.0, 1.0]).all()]  # an event stays one
        parts.append(mine.assign(**(values * rng.uniform(0.9, 1.1, values.shape))))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.slow
def test_a_report_of_100_slides_stays_under_15_megabytes_with_every_picture(given, tmp_path):
    write_report(tmp_path, **hundredfold(given))
    size = (tmp_path / "report.html").stat().st_size
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r'<svg class="slide".*?</svg>', html, flags=re.DOTALL)
    assert len(pictures) == SLIDES
    assert all("data:image/jpeg" in one and 'class="layer' in one and 'class="region' in one for one in pictures)
    assert html.count("<tr><td>") > 1500 and f"{SLIDES} slides" in html
    assert size < 15e6, f"{size / 1e6:.2f} MB"
    with tab() as page:
        page.open(tmp_path / "report.html")
        assert page.complaints() == [] and page.requests() == []
        assert page.run("document.querySelectorAll('svg.slide image').length") == SLIDES
        assert page.run("document.querySelectorAll('#explore-figure .dot').length") > 60
