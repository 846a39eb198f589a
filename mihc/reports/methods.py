"""The methods text: what was done, with versions, settings, definitions and the rule each test follows."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from mihc.reports.claims import LEVEL, TEST_NAMES, split_words
from mihc.reports.doubts import listed
from mihc.reports.numbers import Numbers, counted, sentence, text
from mihc.study import EVALUABLE_TUMOUR_CELLS, Study

_RULES = {
    "cox": "Cox proportional hazards regression with Efron's handling of ties, Wald 95 % intervals and listwise "
    "omission of missing values. A marker enters as log1p(value) divided by its standard deviation over the patients "
    "analysed, so its ratio is per SD. Each term is checked for proportional hazards by the score test of R's cox.zph "
    "(survival 3, time by the Kaplan-Meier curve).",
    "rank_sum": "Wilcoxon rank-sum test by the rule of R 4.2's wilcox.test: exact where both groups have fewer than 50 "
    "patients and there are no ties, else the normal approximation with tie-corrected variance and continuity "
    "correction; shift and interval by Hodges and Lehmann.",
    "kruskal": "Kruskal-Wallis rank sum test with tie correction, as R's kruskal.test.",
    "log_rank": "Log-rank test; chi-squared with hypergeometric variance, as R's survdiff. Because chi-squared calls "
    "small groups different too often, nothing is claimed that 10,000 seeded permutations of the patients over the "
    "groups (100,000 where p is small) do not bear out.",
    "km": "Kaplan-Meier estimates with Greenwood's variance and log-log 95 % limits, as R's survfit with conf.type = "
    "log-log. The median is the first time with survival below one half, and the middle of the step where the curve "
    "stays at exactly one half. Follow-up is the reverse Kaplan-Meier median.",
    "fisher": "Fisher's exact test, two-sided by summing the tables that are no more probable than the observed one; "
    "the odds ratio is the conditional maximum likelihood estimate, as R's fisher.test.",
    "proportion": "Proportions with exact (Clopper-Pearson) 95 % intervals.",
    "spearman": "Spearman's rank correlation.",
    "maxstat": "Maximally selected log-rank statistics; only the p value corrected for the search is given.",
    "weighted_auc": "Area under the curve of cumulative cases and dynamic controls, weighted by the inverse "
    "probability of not being censored; p from 2,000 seeded permutations.",
}
_EDITS = {
    "cells_removed_or_changed": ("cell removed or changed", "cells removed or changed"),
    "cells_made_or_changed": ("cell made or changed", "cells made or changed"),
    "region_edits": ("edit of regions", "edits of regions"),
}
_CORRECTED = {
    "spillover": "From each mean the light was taken that a blur of 0.5 µm carries over the borders with touching "
    "cells, down to 0 at most.",
    "background": "From each mean it was taken by how much the background around the cell (pixels of no cell within "
    "15 µm) exceeds the middle one of the slide.",
    "autofluorescence": "From each mean it was taken by how much the cell's autofluorescence exceeds the slide's usual "
    "one, times the most usual ratio of both lights among the cells that glow (corrections.csv).",
}
_SOURCES = {
    "both": "annotations where a slide has them, otherwise found automatically from the panel's tumour marker",
    "annotations": "annotations only",
    "auto": "found automatically from the panel's tumour marker",
    "classifier": "annotations where a slide has them, otherwise found by a tissue classifier trained on strokes",
}


def methods(numbers: Numbers, study: Study, run: dict) -> list[tuple[str, list[Markup]]]:
    """Titled paragraphs, each a list of sentences."""
    return [
        ("Cells", _cells(study)),
        ("Positivity and density", _definitions(study)),
        ("Regions and areas", _regions(study)),
        *([("Reviews by people", reviews)] if (reviews := reviewers_told(study)) else []),
        ("Patients", _patients(study)),
        ("Tests", _tests(numbers)),
        ("Multiplicity", _families(numbers)),
        ("Pixel sizes", _pixel_sizes(numbers)),
        ("Repeatability", _repeatability(run)),
    ]


def _cells(study: Study) -> list[Markup]:
    settings = study.settings.segmentation
    pieces = {"nucleus": f"{settings.nucleus_diameter_um:g}", "grown": f"{settings.cell_expansion_um:g}"}
    by = "" if settings.method in ("auto", "classical") else "by the segmenter {method} "
    told = "Nuclei were segmented " + by + "with a size hint of {nucleus} µm and grown by at most {grown} µm to cells."
    return [
        sentence(told, pieces | {"method": settings.method}),
        Markup(
            "A marker's value in a cell is its mean over the compartment that panel.csv names. "
            "No cell is dropped: doubtful ones are flagged."
        ),
    ]


def _definitions(study: Study) -> list[Markup]:
    said = [
        Markup("A cell is positive where its value is at least the threshold."),
        Markup("Positivity (%) = positive cells of a region / all cells of that region × 100."),
        Markup("Density (cells/mm²) = positive cells of a region / analysed area of that region in mm²."),
        Markup(
            "A threshold is taken from the final review, else thresholds.csv, else panel.csv, else found per slide and "
            "marker (method {}); where none could be told the value is withheld, never guessed."
        ).format(text(study.settings.thresholds.method)),
    ]
    if study.settings.thresholds.harmonise == "batch":
        said.append(
            Markup(
                "A slide that cannot tell, or whose threshold leaves more than 5 points of positivity open, takes the "
                "median threshold of at least three slides of its panel and batch whose negative peaks agree with its "
                "own, if its cells bear that out; it is marked as harmonised, and its own result is kept beside it."
            )
        )
    said.append(
        Markup(
            "The interval beside a positivity or density is what the thresholds' intervals make of it. A marker is "
            "counted at both ends of its threshold's interval. A phenotype of several markers is counted with each "
            "threshold drawn by itself, 1,024 times, and 2.5 % of the counts lie beyond either end. A typed threshold "
            "has no interval. No test uses it."
        )
    )
    for name, expression in study.settings.phenotypes.items():
        said.append(sentence("{name}: {expression}.", {"name": name, "expression": expression}))
    return said + _corrections(study) + _pdl1_scores(study)


def _corrections(study: Study) -> list[Markup]:
    said = []
    if any(row.levels for panel in study.panels.values() for row in panel.markers) or (
        "strong" in study.thresholds and study.thresholds["strong"].notna().any()
    ):
        said.append(
            Markup("H-score = 1 × % weak + 2 × % moderate + 3 × % strong of all cells, where levels are typed.")
        )
    measure = study.settings.measure
    asked = [told for name, told in _CORRECTED.items() if getattr(measure, f"{name}_correction") == "on"]
    if asked:
        said.append(Markup(" ".join([*asked, "Thresholds are counts of these corrected means."])))
    return said


def _pdl1_scores(study: Study) -> list[Markup]:
    pdl1 = study.settings.pdl1
    if pdl1 is None:
        return []
    named = {"marker": pdl1.marker, "tumour": pdl1.tumour, "immune": pdl1.immune, "fewest": EVALUABLE_TUMOUR_CELLS}
    near = "all analysed stroma, so that stroma far from the tumour raises CPS"
    if pdl1.immune_within_um is not None:
        near = f"stroma within {pdl1.immune_within_um:g} µm of the tumour's margin"
    named["near"] = near
    return [
        sentence("TPS (%) = {marker} positive tumour cells / viable tumour cells × 100.", named),
        sentence(
            "CPS = ({marker} positive tumour cells + {marker} positive immune cells) / viable tumour cells × 100, "
            "at most 100.",
            named,
        ),
        sentence(
            "Viable tumour cells ({tumour}) are those of tumour regions, without what is excluded; immune cells "
            "({immune}, and not tumour cells) are those of tumour regions and of {near}. Counts are summed over a "
            "patient's slides; with fewer than {fewest} viable tumour cells neither score is evaluable.",
            named,
        ),
        Markup("TPS and CPS are for research use only: no pathologist's reading and no basis for treatment."),
    ]


def _regions(study: Study) -> list[Markup]:
    settings = study.settings.regions
    pieces = {"source": _SOURCES.get(settings.source, settings.source), "order": " > ".join(settings.precedence)}
    return [
        sentence("Regions: {source}; where they overlap, {order}.", pieces),
        Markup(
            "A cell belongs to the region that holds its nucleus centroid; "
            "excluded cells and cells outside are in no denominator."
        ),
        sentence(
            "Bands: {width} µm wide, up to {reach} µm on each side of the margin of the tumour regions.",
            {"width": f"{settings.band_um:g}", "reach": f"{settings.bands_to_um:g}"},
        ),
        Markup(
            "Areas come from polygons: scanned = glass + tissue; "
            "tissue = tumour + stroma + other + excluded + unannotated."
        ),
    ]


def reviewers_told(study: Study) -> list[Markup]:
    """Whose corrections count, and how many there are; slides on which nothing was changed are only counted."""
    said = []
    for name in sorted({review.reviewer for review in study.reviews.values()}):
        mine = {slide: one for slide, one in study.reviews.items() if one.reviewer == name}
        told = {slide: one.told() for slide, one in mine.items() if one.changes_numbers}
        parts = [
            f"{counted(sum(one[what] for one in told.values()), *words)} on {listed(s for s in told if told[s][what])}"
            for what, words in _EDITS.items()
            if any(one[what] for one in told.values())
        ]
        parts += [
            f"{counted(sum(len(one['thresholds']) for one in told.values()), 'threshold')} set on "
            + listed(slide for slide in told if told[slide]["thresholds"])
        ] * any(one["thresholds"] for one in told.values())
        pieces = {"name": name, "slides": counted(len(mine), "slide"), "parts": "; ".join(parts) or "nothing changed"}
        said.append(sentence("{name} reviewed {slides}: {parts}.", pieces))
    if any(one.edits_cells for one in study.reviews.values()):
        said.append(Markup("Corrected cells move no automatic threshold; what the machine found is kept beside."))
    return said


def _patients(study: Study) -> list[Markup]:
    withheld = study.settings.thresholds.unclear == "withhold"
    return [
        Markup(
            "The patient is the unit of every test. "
            "A patient's value pools the slides: sum of positive cells / sum of area (or of cells)."
        ),
        Markup("Where a slide that should show a population has no value, the patient's value is missing.")
        if withheld
        else Markup("A slide without a value for a population is left out of the patient's pool."),
        *(
            sentence(
                "{name}: responders are {values} in {column}; every other value, NE too, stays in the denominator.",
                {"name": name, "values": ", ".join(response.responders), "column": response.column},
            )
            for name, response in study.settings.responses.items()
        ),
    ]


def _tests(numbers: Numbers) -> list[Markup]:
    statistics = numbers["statistics"]
    used = list(dict.fromkeys(statistics["analysis"])) if len(statistics) else []
    said = [
        sentence("{name}: {rule}", {"name": TEST_NAMES[name], "rule": _RULES[name]})
        for name in TEST_NAMES
        if name in used
    ]
    named = (
        [split_words(split) for split in dict.fromkeys(statistics["split"]) if split_words(split)]
        if len(statistics)
        else []
    )
    if named:
        said.append(
            sentence(
                "Splits used: {splits}. Whatever chose its cut from the data is marked exploratory.",
                {"splits": "; ".join(dict.fromkeys(named))},
            )
        )
    said.append(
        Markup(
            "Box plots show type-7 quartiles, whiskers to the last patient within 1.5 interquartile ranges, "
            "and every patient as a dot."
        )
    )
    return said


def _families(numbers: Numbers) -> list[Markup]:
    statistics = numbers["statistics"]
    if statistics.empty:
        return [Markup("Nothing was tested.")]
    methods_used = [text(name) for name in dict.fromkeys(statistics["adjust_method"]) if text(name)]
    return [
        sentence(
            "A family is one analysis with one split over all populations, classes, measures and endpoints; p values "
            "are adjusted within it ({methods}). A result is claimed where the adjusted p is below {level}.",
            {"level": f"{LEVEL:g}", "methods": ", ".join(methods_used) or "BH"},
        )
    ]


def _pixel_sizes(numbers: Numbers) -> list[Markup]:
    slides = numbers["slides"]
    if "pixel_size_source" not in slides:
        return [
            Markup(
                "Pixel sizes come from the slide files or from slides.csv and are never guessed; "
                "mihc inspect shows each one."
            )
        ]
    rows = slides[slides["pixel_size_source"].map(text) != ""]
    return [
        sentence("{source}: {n}.", {"source": source, "n": counted(len(group), "slide")})
        for source, group in rows.groupby("pixel_size_source", sort=False)
    ]


def _repeatability(run: dict) -> list[Markup]:
    said = [
        Markup(
            "Every number can be followed to its table cell: the source written beside it (data-source) names file, "
            "line (the header is line 1) and column."
        )
    ]
    seeds = dict(flattened(run.get("seeds", {}))) if run.get("seeds") else {}
    if seeds:
        said.append(
            sentence("Seeds: {seeds}.", {"seeds": ", ".join(f"{name} {value}" for name, value in seeds.items())})
        )
    else:
        said.append(
            Markup("Random draws, where a method needs them, use fixed seeds: the same input gives the same numbers.")
        )
    return said


def flattened(facts: object, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested facts as (dotted name, text) pairs, for a table."""
    if isinstance(facts, dict):
        for name, value in facts.items():
            yield from flattened(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(facts, (list, tuple)) and any(isinstance(item, (dict, list, tuple)) for item in facts):
        for place, item in enumerate(facts):
            yield from flattened(item, f"{prefix}.{place}")
    elif isinstance(facts, (list, tuple)):
        yield prefix, ", ".join(str(item) for item in facts)
    else:
        yield prefix, "" if facts is None else str(facts)
