"""The report as a person sees it: drawn by a browser, chosen in, clicked on; and what hostile names do there."""

from __future__ import annotations

import csv
import inspect
import re

import numpy as np
import pandas as pd
import pytest
from browser import tab
from drawn_report import drawn_picture, drawn_tables
from drawn_robustness import drawn_robustness
from hostile_report import HOSTILE, PAYLOADS, marked
from report_page import written

from mihc.reports.numbers import rounded
from mihc.statistics import kaplan_meier
from mihc.steps import describe, tell

CHOOSE = """(async () => {{
  for (const [name, words] of {wanted}) {{
    const pick = document.getElementById(`explore-${{name}}`);
    pick.value = [...pick.options].find((one) => one.textContent === words).value;
    pick.dispatchEvent(new Event("change"));
  }}
}})()"""
EVERY_CHOICE = """(() => {
  let drawn = 0;
  const turn = (name, then) => {
    const pick = document.getElementById(`explore-${name}`);
    for (const key of [...pick.options].map((one) => one.value)) {
      pick.value = key;
      pick.dispatchEvent(new Event("change"));
      then();
    }
  };
  turn("against", () => turn("split", () => {
    drawn += document.querySelectorAll("#explore-figure .dot").length;
    for (const dot of [...document.querySelectorAll("#explore-figure .dot")].slice(0, 3))
      dot.dispatchEvent(new Event("click", { bubbles: true }));
  }));
  for (const name of ["population", "region", "measure"]) turn(name, () => {});
  for (const button of document.querySelectorAll("th:first-child button.sort, button.copy")) button.click();
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  return drawn;
})()"""
SKELETON = """[...document.querySelectorAll("*")].map((one) => one.tagName + " " +
  one.getAttributeNames().filter((name) => name !== "selected").sort().join(" "))"""
NUMBERS = """[...document.querySelectorAll("{where} [data-source]")].map((one) =>
  [one.dataset.value, one.dataset.source, one.textContent])"""


@pytest.fixture(scope="module")
def page():
    with tab() as one:
        yield one


@pytest.fixture(scope="module")
def tables():
    return drawn_tables()


@pytest.fixture(scope="module")
def report(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("looked-at")
    written(folder, tables, pictures=[drawn_picture(slide, side=60, um_per_px=20.0) for slide in ("S01", "S09")])
    return folder / "report.html"


def chosen(page, **wanted):
    """Choose in the order given, by the words that a person reads."""
    page.run(CHOOSE.format(wanted=[list(pair) for pair in wanted.items()]))


def is_their_cell(tables, numbers):
    """Every number in the page is the cell of the table that it names, and is shown as that is rounded."""
    for value, source, shown in numbers:
        table, line, column = re.fullmatch(r"(\w+)\.csv:(\d+)/(.+)", source).groups()
        cell = float(tables[table][column].iloc[int(line) - 2])
        assert float(value) == cell
        forms = {rounded(cell, form) for form in ("number", "count", "ratio", "percent", "p", "p_cell")}
        assert shown in forms


def test_NP46_every_number_of_the_figure_is_its_table_cell(page, report, tables):
    page.open(report)
    chosen(page, population="CD3", region="tumour", measure="density", against="PFS", split="survival by median")
    page.run("document.querySelector('#explore-figure .dot').dispatchEvent(new Event('click', {bubbles: true}))")
    numbers = page.run(NUMBERS.format(where="#explore"))
    assert len(numbers) > 10 and {"patients", "statistics"} == {source.split(".csv")[0] for _, source, _ in numbers}
    is_their_cell(tables, numbers)
    is_their_cell(tables, page.run(NUMBERS.format(where="#heat")))
    assert page.complaints() == [] and page.requests() == []


def test_the_figures_curve_is_kaplan_meiers(page, report, tables):
    page.open(report)
    chosen(page, population="CD20", region="tumour", measure="density", against="PFS", split="survival by median")
    patients = tables["patients"]
    values = patients["CD20|tumour|density_per_mm2"]
    high = (values > values.median()).to_numpy()
    drawn = page.run("[...document.querySelectorAll('[data-curve]')].map((one) => one.dataset.curve)")
    risk = page.run(
        "[...document.querySelectorAll('[data-at-risk]')].map((one) => [one.dataset.atRisk, one.textContent])"
    )
    for group, (told, mine) in enumerate(zip(drawn, (~high, high), strict=True)):
        time, event = patients["pfs_months"][mine].to_numpy(), patients["pfs_event"][mine].to_numpy()
        curve = kaplan_meier(time, event)
        for at, share in (map(float, point.split(":")) for point in told.split()):
            assert share == pytest.approx(curve.at(at).estimate, rel=1e-12)
        shown = {float(key.split()[1]): int(n) for key, n in risk if int(key.split()[0]) == group}
        assert len(shown) > 3
        assert shown == {at: int(np.sum(time >= at)) for at in shown}


def test_every_patient_is_a_dot_that_names_slides_and_the_command(page, report, tables):
    page.open(report)
    chosen(page, population="CD20", region="tumour", measure="density", against="ORR", split="responders or not")
    assert page.run("document.querySelectorAll('#explore-figure .dot').length") == len(tables["patients"])
    page.run("document.querySelector('[data-patient=\"1\"]').dispatchEvent(new Event('click', {bubbles: true}))")
    panel = page.run("document.getElementById('explore-patient').innerText")
    assert "Patient P002: CD20 density in tumour" in panel
    assert "mihc review STUDY --slide S02 --region tumour --population CD20" in panel
    chosen(page, population="B cell")
    page.run("document.querySelector('[data-patient=\"1\"]').dispatchEvent(new Event('click', {bubbles: true}))")
    assert '--population "B cell"' in page.run("document.getElementById('explore-patient').innerText")


def test_a_square_of_the_heat_map_is_shown_in_the_figure(page, report):
    page.open(report)
    choice = page.run("""(() => { const all = [...document.querySelectorAll("#heat td[data-explore]")];
      const square = all.at(-1); square.click();
      return [square.closest("tr").cells[0].textContent, square.querySelector("[data-source]").dataset.source]; })()""")
    shown = page.run("document.getElementById('explore-population').selectedOptions[0].textContent")
    tests = page.run(NUMBERS.format(where="#explore-tests"))
    assert shown == choice[0] and choice[1] in {source for _, source, _ in tests}


def test_tables_are_sorted_and_taken_away_without_formulas(page, tmp_path):
    hostile = marked("=1+1")
    hostile["tables"]["patients"].loc[3, "ecog=1+1"] = "=HYPERLINK(1)"
    written(tmp_path, **hostile)
    page.open(tmp_path / "report.html")
    page.run("""URL.createObjectURL = (blob) => { window.taken = blob.text(); return "data:,"; };
      HTMLAnchorElement.prototype.click = function () { window.takenName = this.download; };""")
    page.run("""(() => { const table = document.querySelector("#every-number table");
      table.tHead.rows[0].cells[2].querySelector("button").click();
      document.querySelector("#every-number button.take").click(); })()""")
    rows = list(csv.reader(page.run("window.taken").removeprefix("\ufeff").splitlines()))
    patients = hostile["tables"]["patients"]
    values = [float(row[2]) for row in rows[1:] if row[2]]
    assert values == sorted(patients.iloc[:, 2].dropna())
    assert len(rows) == len(patients) + 1 and page.run("window.takenName").endswith(".csv")
    assert "'=HYPERLINK(1)" in {cell for row in rows for cell in row}
    assert not [cell for row in rows for cell in row if cell[:1] in ("=", "+", "@")]


OWN_WORDS = {  # what the program writes into the tables itself
    "status", "control", "verdict", "own_verdict", "category", "tissue_class", "used", "analysis", "measure", "split",
    "estimate_kind", "adjust_method", "pooling", "rule", "effect_kind", "power_method", ("robustness", "regions"),
    ("splits", "note"), "correction", ("corrections", "note"),
}  # fmt: skip


def test_X7_every_table_is_hostile_in_every_column_that_people_and_files_write():
    """What is the same under another mark is the program's own word; a table or column that comes later shows here."""
    one, other = (marked(mark)["tables"] for mark in ("-one", "-other"))
    given = inspect.getsource(tell._tell)
    names = {
        *re.findall(r'tables\["(\w+)"\]', given),
        *re.findall(r'"(\w+)"', re.search(r"names = \((.*?)\)", given)[1]),
    }
    assert {"regions", "history", "slides", "given_cells"} < names
    assert set(one) == names | {*tell.STATISTICAL, *describe.TABLES, "pdl1"}
    for name, table in one.items():
        for place, column in enumerate(table):
            values, others = (frame[name].iloc[:, place] for frame in (one, other))
            if not pd.api.types.is_numeric_dtype(values) and values.fillna("").equals(others.fillna("")):
                assert {column, (name, column)} & OWN_WORDS, f"{name}.csv, {column}"


def test_X7_forty_hostile_strings_do_nothing_in_a_browser(page, tmp_path):
    assert len(set(PAYLOADS)) == 40
    skeletons = []
    for name, mark in (("benign", "-benign"), ("hostile", HOSTILE)):
        written(tmp_path / name, **marked(mark))
        page.open(tmp_path / name / "report.html")
        assert page.run(EVERY_CHOICE) > 100
        assert page.complaints() == []
        assert page.requests() == []
        skeletons.append(page.run(SKELETON))
    assert len(skeletons[0]) > 15_000
    words = page.run("document.body.textContent")
    for told in ("Ada", "anna", "ben", "too low", "few", "batch A", "C01", "models/nuclei", "clinical", "S07", "Tumor"):
        assert f"{told}<script>alert(1)</script>" in words, told  # it is there, as text
    assert skeletons[0] == skeletons[1]
    assert page.run("document.title").startswith("Study<script>alert(1)</script>")


def test_without_a_script_nothing_is_missing_but_the_choice(page, report):
    page.open(report, dark_script=True)
    assert page.run("getComputedStyle(document.getElementById('explore')).display") == "none"
    assert page.run("document.querySelectorAll('#heat td .na, #heat td [data-source]').length") > 50
    assert page.run("document.querySelectorAll('#associations ~ section img').length") > 4
    assert page.run("document.querySelectorAll('button').length") == 0


@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_is_wider_than_the_page(page, report, width):
    page.open(report, width=width)
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.run("document.documentElement.scrollWidth") <= width


def test_on_a_phone_every_test_is_read_without_moving_sideways(page, report):
    """Rows of the tables of tests are cards there, whose cells name their columns."""
    page.open(report, width=390)
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    wide = "[...document.querySelectorAll('{where} .scroll')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert page.run(wide.format(where="#every-test")) == 0 and page.run(wide.format(where="section[id^=slide]")) == 0
    cell = "#every-test tbody tr:last-child td:nth-last-child(2)"
    shown = page.run(f"getComputedStyle(document.querySelector('{cell}'), '::before').content")
    assert shown in ('"p"', '"adjusted p"', '"p, proportional"', '"note"')
    assert page.run("getComputedStyle(document.querySelector('#every-test thead')).display") == "none"
    page.open(report, width=1440)
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.run("getComputedStyle(document.querySelector('#every-test thead')).display") != "none"
    first = "document.querySelector('#every-test .scroll')"  # markers' ratios, with the check of proportional hazards
    assert page.run(f"/hazard ratio.*p, proportional/s.test({first}.textContent)")
    assert page.run(f"{first}.scrollWidth <= {first}.clientWidth")


@pytest.mark.parametrize(("paper", "width"), [("A4", 688), ("Letter", 710)])  # px within margins of 14 mm
def test_nothing_is_wider_than_the_paper(page, tables, tmp_path, paper, width):
    """Many columns, every chapter, everything opened, as a browser prints it."""
    more = dict.fromkeys([f"marker {k}|stroma|positivity_percent" for k in range(30)], 12.5)
    wide = tables | drawn_robustness() | {"patients": tables["patients"].assign(**more)}
    written(tmp_path, wide, pictures=[drawn_picture("S01", side=60, um_per_px=20.0)])
    page.open(tmp_path / "report.html", width=width)
    page.ask("Emulation.setEmulatedMedia", media="print")
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.run("document.documentElement.scrollWidth") <= width, paper
    assert page.run("document.querySelector('p.paper-only').checkVisibility()")
    page.ask("Emulation.setEmulatedMedia", media="")
    assert not page.run("document.querySelector('p.paper-only').checkVisibility()")


def test_every_picture_and_figure_has_words(page, report):
    page.open(report)
    assert page.run("[...document.images].every((one) => one.complete && one.naturalWidth > 0 && one.alt)")
    assert page.run("[...document.querySelectorAll('svg[role]')].every((one) => one.getAttribute('aria-label'))")
    assert page.run("[...document.querySelectorAll('select')].every((one) => one.labels.length === 1)")
