"""Published results of public survival data sets beside mihc's: python -m benchmarks.published DATA

DATA is a folder with the data sets' own folders (`clinical_R_survival_LGPL`, `clinical_lifelines_MIT`,
`clinical_maxstat_dlbcl_GPL2`, `cells_lung_vectra_outcome`); what is not there is said and left out. A published number
agrees if ours, rounded to its digits, is the same; otherwise the reason is printed, and a difference without one makes
the exit code 1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mihc import statistics

LIFELINES = "lifelines 0.30"
ALLISON = "Fox and Weisberg: Cox Regression in R, 2018 (Allison's recidivism data)"
KLEIN = "Klein and Moeschberger: Survival Analysis, 2003, example 8.2 (Breslow)"
MAXSTAT = "R maxstat 0.7, its examples' recorded output"
STOPS_EARLY = "lifelines stops its iteration early (up to 4e-4 of a standard error)"


@dataclass(frozen=True)
class Line:
    """One published number and ours."""

    data: str
    what: str
    published: str
    ours: float
    source: str
    reason: str = ""  # why it may differ

    @property
    def agrees(self) -> bool:
        decimals = len(self.published.split(".")[1]) if "." in self.published else 0
        return abs(self.ours - float(self.published)) <= 0.5000001 * 10.0**-decimals


def cancer(data: Path) -> Iterator[Line]:
    table = pd.read_csv(data / "clinical_R_survival_LGPL" / "cancer.csv")
    time, event = table["time"], table["status"] - 1
    test = statistics.log_rank(time, event, table["sex"])
    r_help = "R survival, ?survdiff and its vignette"
    yield Line("cancer (NCCTG lung)", "log-rank by sex, chi-squared", "10.3", test.statistic, r_help)
    yield Line("", "p", "0.001", test.p, r_help)
    yield Line("", "chi-squared", "10.326742", test.statistic, LIFELINES)
    for sex, published in ((1, "270"), (2, "426")):
        members = table["sex"] == sex
        median = statistics.kaplan_meier(time[members], event[members]).median()
        yield Line("", f"median survival, sex {sex}, days", published, median.estimate, LIFELINES)
    model = statistics.cox_model(time, event, table[["age", "sex", "ph.ecog"]])
    yield Line("", "Cox age + sex + ph.ecog: log likelihood", "-729.230121", model.log_likelihood, LIFELINES)
    yield Line("", "concordance", "0.63714", model.concordance.estimate, LIFELINES)
    ratios = {"age": ("1.011128", "0.992928", "1.029662"), "sex": ("0.575446", "0.414214", "0.799437")}
    ratios["ph.ecog"] = ("1.589991", "1.272675", "1.986423")
    for term in model.terms:
        for name, published, ours in zip(
            ("HR", "lower", "upper"), ratios[term.term], (term.estimate, term.ci_low, term.ci_high), strict=True
        ):
            yield Line("", f"{term.term} {name}", published, ours, LIFELINES, STOPS_EARLY)


def veteran(data: Path) -> Iterator[Line]:
    table = pd.read_csv(data / "clinical_R_survival_LGPL" / "veteran.csv")
    model = statistics.cox_model(table["time"], table["status"], table[["trt", "karno", "age"]])
    yield Line("veteran", "Cox trt + karno + age: log likelihood", "-483.877980", model.log_likelihood, LIFELINES)
    yield Line("", "concordance", "0.71195", model.concordance.estimate, LIFELINES)
    ratios = {"trt": ("1.208701", "0.840224", "1.738773"), "karno": ("0.966143", "0.956285", "0.976102")}
    ratios["age"] = ("0.996143", "0.978366", "1.014243")
    for term in model.terms:
        for name, published, ours in zip(
            ("HR", "lower", "upper"), ratios[term.term], (term.estimate, term.ci_low, term.ci_high), strict=True
        ):
            yield Line("", f"{term.term} {name}", published, ours, LIFELINES, STOPS_EARLY)


def rossi(data: Path) -> Iterator[Line]:
    table = pd.read_csv(data / "clinical_lifelines_MIT" / "rossi.csv")
    names = ["fin", "age", "race", "wexp", "mar", "paro", "prio"]
    model = statistics.cox_model(table["week"], table["arrest"], table[names])
    published = {
        "fin": ("-0.379", "0.191"), "age": ("-0.057", "0.022"), "race": ("0.314", "0.308"), "wexp": ("-0.150", "0.212"),
        "mar": ("-0.434", "0.382"), "paro": ("-0.085", "0.196"), "prio": ("0.091", "0.029"),
    }  # fmt: skip
    for place, term in enumerate(model.terms):
        coefficient, error = published[term.term]
        yield Line("rossi" if not place else "", f"{term.term} coefficient", coefficient, term.coefficient, ALLISON)
        yield Line("", f"{term.term} standard error", error, term.standard_error, ALLISON)
    yield Line("", "likelihood ratio, 7 df", "33.3", model.likelihood_ratio.statistic, ALLISON)
    yield Line("", "Wald, 7 df", "32.1", model.wald.statistic, ALLISON)
    yield Line("", "score, 7 df", "33.5", model.score.statistic, ALLISON)


def larynx(data: Path) -> Iterator[Line]:
    table = pd.read_csv(data / "clinical_lifelines_MIT" / "larynx.csv")
    names = ["Stage_II", "Stage_III", "Stage_IV", "age"]
    model = statistics.cox_model(table["time"], table["death"], table[names], ties="breslow")
    published = {"Stage_II": "0.1386", "Stage_III": "0.6383", "Stage_IV": "1.6931", "age": "0.0189"}
    for place, term in enumerate(model.terms):
        yield Line(
            "larynx" if not place else "", f"{term.term} coefficient", published[term.term], term.coefficient, KLEIN
        )


def dlbcl(data: Path) -> Iterator[Line]:
    table = pd.read_csv(data / "clinical_maxstat_dlbcl_GPL2" / "DLBCL.csv")
    columns = (table["time"], table["cens"], table["MGE"])
    found = statistics.max_selected(*columns, corrections="all")
    yield Line("DLBCL", "cut of mean gene expression", "0.1860526", found.estimate, MAXSTAT)
    yield Line("", "M, exact scores", "3.1772", found.statistic, MAXSTAT)
    yield Line("", "M, whole-number scores", "3.171", found.statistic_hl, MAXSTAT)
    rounded = "R printed it for the whole-number scores, whose M is 0.2 % smaller"
    yield Line("", "p, Lau92", "0.03611", found.p_lau92, MAXSTAT, rounded)
    yield Line("", "p, Lau94", "0.02435", found.p_lau94, MAXSTAT, rounded)
    gauss = f"{rounded}, by drawing with an error of up to 0.01"
    yield Line("", "p, exact Gauss", "0.01898", found.p_gauss, MAXSTAT, gauss)
    yield Line("", "p, HL", "0.02218", found.p_hl, MAXSTAT)
    drawn = "R counts permutations above M, we those that reach it; 9,999 and 10,000 draws, standard error 0.001"
    yield Line("", "p, permutation", "0.0102", found.p, MAXSTAT, drawn)


def lung_cells(data: Path) -> Iterator[Line]:
    folder = data / "cells_lung_vectra_outcome"
    cells = pd.read_csv(folder / "lung_cells.csv.gz", low_memory=False)
    patients = pd.read_csv(folder / "lung_patients.csv").set_index("patient_id")
    column = next(name for name in cells.columns if name.lower().endswith("cd8") and "pheno" in name.lower())
    of_patient = cells.groupby("patient_id")[column]
    patients["cd8"] = 100 * of_patient.agg(lambda calls: (calls == "CD8+").mean()).reindex(patients.index)
    time, event = patients["survival_days"], patients["survival_status"]
    split = statistics.median_split(patients["cd8"])
    test = statistics.log_rank(time, event, split.labels)
    yield Line(
        "lung cells (50 patients)", "CD8 % at its median: log-rank chi-squared", "0.07811", test.statistic, LIFELINES
    )
    yield Line("", "p", "0.779875", test.p, LIFELINES)
    model = statistics.cox_model(time, event, patients[["cd8", "age"]])
    for term, published in zip(model.terms, (("1.097228", "0.164924"), ("1.047043", "0.00449138")), strict=True):
        yield Line("", f"Cox {term.term} HR", published[0], term.estimate, LIFELINES, STOPS_EARLY)
        yield Line("", f"Cox {term.term} p", published[1], term.p, LIFELINES, STOPS_EARLY)
    yield Line("", "log likelihood", "-103.697223", model.log_likelihood, LIFELINES)
    yield Line("", "concordance", "0.68574", model.concordance.estimate, LIFELINES)


DATA_SETS = (cancer, veteran, rossi, larynx, dlbcl, lung_cells)


def main(data: Path) -> int:
    """Print the table; 1 if a number differs without a reason."""
    unexplained = 0
    print("| data | what | published | mihc | verdict | source |\n|-|-|-|-|-|-|")
    for data_set in DATA_SETS:
        try:
            lines = list(data_set(data))
        except FileNotFoundError as error:
            print(f"| {data_set.__name__} | not there: {Path(error.filename).name} | | | | |")
            continue
        for line in lines:
            verdict = "agrees" if line.agrees else f"differs: {line.reason}" if line.reason else "DIFFERS"
            unexplained += verdict == "DIFFERS"
            ours = np.format_float_positional(line.ours, precision=8, trim="-")
            print(f"| {line.data} | {line.what} | {line.published} | {ours} | {verdict} | {line.source} |")
    return 1 if unexplained else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.published DATA")
    sys.exit(main(Path(sys.argv[1])))
