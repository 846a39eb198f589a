"""A drawn study whose every name, and every value that a person or a file gives, is hostile."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
from drawn_report import (
    drawn_notes,
    drawn_patients,
    drawn_picture,
    drawn_regions_table,
    drawn_settings,
    drawn_slide_tables,
    drawn_study,
)
from drawn_robustness import drawn_robustness
from hostile_tables import as_population, beside_a_batch, more_tables, reviews

from mihc.associate import associate
from mihc.panel import Panel
from mihc.studies.settings import Pdl1

PAYLOADS = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'><svg onload=alert(1)>",
    "</style></title></textarea>", "{{7*7}}{% raw %}", "=cmd()", "\u202eevil\u2066", "\u2028\u2029", "\x01\x1b[31m",
    "&lt;b&gt;&#60;i&#62;", "<!--", "]]>", "javascript:alert(1)", "url(https://x.example/)", "$\\frac{1}{0}$",
    "</script><script>alert(2)</script>", "<!--<script>", "\\u003cscript>alert(3)", "\\", "\\'-alert(4)-\\'",
    "`${alert(5)}`", "*/alert(6)/*", "';alert(7)//", '"-alert(8)-"', "<iframe srcdoc='<script>alert(9)</script>'>",
    "<base href=https://x.example/>", "<link rel=stylesheet href=https://x.example/a.css>",
    "<meta http-equiv=refresh content='0;url=https://x.example/'>", "<object data=data:text/html,x>",
    "<form action=https://x.example/><button>", "<math><mi xlink:href=javascript:alert(10)>",
    "<style>@import 'https://x.example/b.css'</style>", "}body{background:url(https://x.example/c)}",
    "<details open ontoggle=alert(11)>", "__proto__", "constructor", "+1+cmd|' /C calc'!A0", "@SUM(1+1)",
    "\ufeff\u0007\ufffe", "%3Cscript%3E",
)  # fmt: skip
HOSTILE = "".join(PAYLOADS)
CHANGES = ("best_change", "change_2m", "response_months")


def marked(mark):
    """The drawn study with `mark` behind every name that a person or a file gives; what the program names stays."""
    group = "signature" + mark
    regions = drawn_regions_table(1.4)
    for column in ("slide", "patient", "region"):
        regions[column] += mark
    patients = drawn_patients(regions, 1.4)
    named = as_population(mark)
    regions["population"] += named
    patients["best_change"], patients["change_2m"] = (
        np.linspace(-60, 40, len(patients)),
        np.linspace(-40, 30, len(patients)),
    )
    patients["response_months"] = 0.0
    patients.columns = [name.replace("|", named + "|", 1) if "|" in name else name for name in patients]
    patients = patients.rename(columns={"signature": group} | {name: name + mark for name in ("ecog", *CHANGES)})
    for column in (group, "best_response", "ecog" + mark):
        patients[column] += mark
    settings = drawn_settings("Study" + mark, group)
    settings = replace(
        settings,
        outcomes={"PFS" + mark: replace(settings.outcomes["PFS"], unit="months" + mark)},
        responses={
            "ORR" + mark: replace(
                settings.responses["ORR"],
                responders=("CR" + mark, "PR" + mark),
                change="best_change" + mark,
                changes={"change_2m" + mark: 2.0},
                start="response_months" + mark,
                until="PFS" + mark,
            )
        },
        phenotypes={"B cell" + named: "CD20" + named + "+"},
        pdl1=Pdl1("PD-L1" + named, "PanCK+" + named, "CD3+" + named),
        regions=replace(settings.regions, classes={"Tumor" + mark: "tumour"}),
        segmentation=replace(settings.segmentation, weights="models/nuclei" + mark),
        cox_covariates=("ecog" + mark,),
        splits=replace(settings.splits, outcome=("landmark:12",)),
    )
    tables = drawn_slide_tables(regions, "panel" + mark)
    tables["slides"] = tables["slides"].assign(batch="A" + mark, control="")
    control = tables["slides"].iloc[[0]].assign(slide="C01" + mark, patient="", control="isotype")
    tables["slides"] = pd.concat([tables["slides"], control], ignore_index=True)
    for table, columns in {"slides": ["message", "pixel_size_source"], "thresholds": ["method", "who"],
                           "area_ledger": ["region"], "qc": ["check", "unit", "explanation"]}.items():  # fmt: skip
        tables[table][columns] += mark
    tables["thresholds"]["marker"] += named
    tables["qc"].loc[[4, 6], "verdict"] = ["fail", "warn"]
    tables["thresholds"] = beside_a_batch(tables["thresholds"], mark)
    tables["regions"] = regions.assign(h_score=120.0)
    statistics = associate(patients, settings)
    statistics = statistics[statistics["population"].isin(["", "CD20" + named])].reset_index(drop=True)
    statistics["note"] += mark
    rows = [
        replace(row, marker=row.marker + named, channel=row.channel + mark) for row in drawn_study().panels[""].rows
    ]
    panel = Panel("panel" + mark, tuple(rows))
    study = replace(drawn_study(), settings=settings, panels={panel.name: panel}, reviews=reviews(mark))
    drawn = drawn_picture("S01" + mark, side=30)
    picture = replace(
        drawn,
        panel=panel.name,
        regions=[replace(region, name=region.name + mark) for region in drawn.regions],
        positives={name + named: points for name, points in drawn.positives.items()},
        histograms={name + named: histogram for name, histogram in drawn.histograms.items()},
    )
    run = {
        "versions": {"mihc" + mark: "0.1.0" + mark}, "inputs" + mark: ["a" + mark, {"b" + mark: mark}],
        "settings": asdict(settings), "inputs": {"S01" + mark: {"cells": {"input": "9f2c" + mark}}},
        "files": {"clinical" + mark + ".xlsx": "9f2c"}, "failed": {"S07" + mark: "FILE: truncated" + mark},
        "seeds": {"draws" + mark: 1}, "stages": [{"stage": "cells", "slide": "S01" + mark, "why": "because" + mark}],
    }  # fmt: skip
    notes = drawn_notes(drawn_regions_table(1.4))  # no study gets so far with control characters in its names
    for column, behind in {"patient": mark, "population": named, "slide": mark, "note": mark}.items():
        notes.loc[notes[column] != "", column] += behind
    tables |= more_tables(mark) | {"patients": patients, "statistics": statistics, "notes": notes}
    tables |= drawn_robustness(mark)
    return {"tables": tables,
            "study": study, "pictures": [picture], "run": run}  # fmt: skip
