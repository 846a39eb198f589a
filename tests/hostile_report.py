"""A drawn study whose every name, and every value that a person or a file gives, is hostile."""

from dataclasses import replace

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

from mihc.associate import associate
from mihc.panel import Panel

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


def marked(mark):
    """The drawn study with `mark` behind every name that a person or a file gives; what the program names stays."""
    group = "signature" + mark
    regions = drawn_regions_table(1.4)
    for column in ("slide", "patient", "region", "population"):
        regions[column] += mark
    patients = drawn_patients(regions.assign(population=regions["population"].str.removesuffix(mark)), 1.4)
    patients.columns = [name.replace("|", mark + "|", 1) if "|" in name else name for name in patients]
    patients = patients.rename(columns={"signature": group, "ecog": "ecog" + mark})
    for column in (group, "best_response", "ecog" + mark):
        patients[column] += mark
    settings = drawn_settings("Study" + mark, group)
    settings = replace(
        settings,
        outcomes={"PFS" + mark: replace(settings.outcomes["PFS"], unit="months" + mark)},
        responses={"ORR" + mark: replace(settings.responses["ORR"], responders=("CR" + mark, "PR" + mark))},
        phenotypes={"B cell" + mark: "CD20+" + mark},
        cox_covariates=("ecog" + mark,),
        splits=replace(settings.splits, outcome=("landmark:12",)),
    )
    tables = drawn_slide_tables(regions, "panel" + mark)
    for table, columns in {"slides": ["message", "pixel_size_source"], "thresholds": ["marker", "method", "who"],
                           "area_ledger": ["region"], "qc": ["check", "unit", "explanation"]}.items():  # fmt: skip
        tables[table][columns] += mark
    statistics = associate(patients, settings)
    statistics = statistics[statistics["population"].isin(["", "CD20" + mark])].reset_index(drop=True)
    statistics["note"] += mark
    panel = Panel("panel" + mark, drawn_study().panels[""].rows)
    study = replace(drawn_study(), settings=settings, panels={panel.name: panel})
    drawn = drawn_picture("S01" + mark, side=30)
    picture = replace(
        drawn,
        panel=panel.name,
        regions=[replace(region, name=region.name + mark) for region in drawn.regions],
        positives={name + mark: points for name, points in drawn.positives.items()},
        histograms={name + mark: histogram for name, histogram in drawn.histograms.items()},
    )
    run = {"versions": {"mihc" + mark: "0.1.0" + mark}, "inputs" + mark: ["a" + mark, {"b" + mark: mark}]}
    notes = drawn_notes(drawn_regions_table(1.4))  # no study gets so far with control characters in its names
    for column in ("patient", "population", "slide", "note"):
        notes.loc[notes[column] != "", column] += mark
    tables |= {"regions": regions, "patients": patients, "statistics": statistics, "notes": notes}
    tables |= drawn_robustness(mark)
    return {"tables": tables,
            "study": study, "pictures": [picture], "run": run}  # fmt: skip
