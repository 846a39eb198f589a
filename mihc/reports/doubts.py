"""Which numbers are fragile, and which slides to look at first."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from mihc.errors import PanelError
from mihc.positives import parse_expression
from mihc.reports.cell_flow import cell_flows
from mihc.reports.claims import MEASURES, not_proportional, runaway, stands, subject_of, tests
from mihc.reports.commands import Target, failed, opened
from mihc.reports.numbers import Numbers, as_float, counted, sentence, text
from mihc.reports.thresholds import drift_doubts, drifted

FEW_EVENTS = 10  # events per term of a Cox model below which it is called fragile
FEW_PATIENTS = 20
MUCH_GLASS_PERCENT = 10.0
MOST_REMARKS = 6  # told in their own words
_WEIGHTS = {"failed": 100, "fail": 20, "unclear": 8, "glass": 4, "drift": 4, "warn": 1}
_CLAIMED = 15  # added where the marker carries a claim: before withheld values, which are in no claim


@dataclass(frozen=True)
class Suspect:
    """A slide that should be looked at, and why."""

    slide: str
    reasons: tuple[str, ...]
    weight: int
    commands: tuple[str, ...]  # what to type to see what is in doubt; () where there is nothing to open


@dataclass(frozen=True)
class _Reason:
    """One reason to look at a slide, and where on it."""

    kind: str  # a key of _WEIGHTS
    said: str
    target: Target


def doubts(numbers: Numbers) -> list[Markup]:
    """What makes numbers of this study fragile, one sentence each; empty when nothing does."""
    return [
        *_failed_slides(numbers),
        *_unclear_thresholds(numbers),
        *drift_doubts(numbers),
        *_quality(numbers),
        *_glass(numbers),
        *_lost_cells(numbers),
        *_unknown_areas(numbers),
        *_withheld_patients(numbers),
        *_few(numbers),
        *_infinite(numbers),
        *_not_proportional(numbers),
    ]


def _failed_slides(numbers: Numbers) -> Iterable[Markup]:
    for _index, row in failed(numbers["slides"]).iterrows():
        told = text(row.get("message"))
        pieces = {"slide": row["slide"], "patient": text(row.get("patient")), "told": f": {told}" if told else ""}
        yield sentence("Slide {slide} (patient {patient}) failed and is in no number{told}", pieces)


def _unclear_thresholds(numbers: Numbers) -> Iterable[Markup]:
    thresholds = numbers["thresholds"]
    if thresholds.empty:
        return
    unclear = ~_of_controls(numbers, thresholds) & (thresholds["verdict"] == "cannot tell")
    for marker, rows in thresholds[unclear].groupby("marker", sort=False):
        pieces = {"marker": marker, "slides": listed(rows["slide"]), "n": counted(len(rows), "slide")}
        yield sentence("{marker}: no threshold could be told on {n}, so nothing was called there: {slides}", pieces)


def _quality(numbers: Numbers) -> Iterable[Markup]:
    qc = numbers["qc"]
    if qc.empty:
        return
    for verdict, word in (("fail", "failed"), ("warn", "had warnings in")):
        rows = qc[(qc["verdict"] == verdict) & ~_of_controls(numbers, qc)]
        remarks = rows["check"].map(text) == "remark"
        if len(measured := rows[~remarks]):
            pieces = {
                "n": counted(len(set(measured["slide"])), "slide"),
                "word": word,
                "checks": listed(dict.fromkeys(measured["check"])),
                "slides": listed(measured["slide"]),
            }
            yield sentence("{n} {word} quality checks: {checks} ({slides})", pieces)
        yield from _remarks(rows[remarks])


def _remarks(rows: pd.DataFrame) -> Iterable[Markup]:
    """What was remarked, in its own words, with its slides."""
    of_words: dict[str, list[str]] = {}
    for _index, row in rows.iterrows():
        of_words.setdefault(_measured(row), []).append(text(row["slide"]))
    for told, slides in list(of_words.items())[:MOST_REMARKS]:
        yield sentence("{slides}: {told}", {"slides": listed(slides), "told": told})
    if len(of_words) > MOST_REMARKS:
        yield sentence("{n} on quality stand on the slides' own pages",
                       {"n": counted(len(of_words) - MOST_REMARKS, "more remark")})  # fmt: skip


def _of_controls(numbers: Numbers, table: pd.DataFrame) -> pd.Series:
    """Which rows are of slides that count for nobody, and so make no number fragile."""
    return table["slide"].map(text).isin(numbers.control_slides)


def _glass(numbers: Numbers) -> Iterable[Markup]:
    glass = glassy(numbers["area_ledger"])
    for _index, row in glass[~_of_controls(numbers, glass)].iterrows() if len(glass) else ():
        pieces = {
            "slide": row["slide"],
            "region": text(row["region"]) or text(row["category"]),
            "share": round(as_float(row["glass_percent"])),
        }
        yield sentence(
            "Slide {slide}: {share} % of the region {region} is glass, which makes its densities too low", pieces
        )


def glassy(ledger: pd.DataFrame) -> pd.DataFrame:
    """Analysed regions with more glass than a tenth of their area."""
    if ledger.empty or "glass_percent" not in ledger:
        return ledger.iloc[:0]
    analysed = ledger["category"].isin(["tumour", "stroma", "other"])
    return ledger[analysed & (pd.to_numeric(ledger["glass_percent"], errors="coerce") > MUCH_GLASS_PERCENT)]


def _lost_cells(numbers: Numbers) -> Iterable[Markup]:
    for flow in cell_flows(numbers).values():
        if not flow.sums:
            told = {"slide": flow.slide, "flow": flow.told(numbers)}
            yield sentence("Slide {slide}: its cells do not sum, so its numbers cannot be trusted: {flow}", told)


def _unknown_areas(numbers: Numbers) -> Iterable[Markup]:
    regions = numbers["regions"]
    slides = list(dict.fromkeys(regions.loc[regions["area_mm2"].isna(), "slide"])) if len(regions) else []
    if slides:
        pieces = {"n": counted(len(slides), "slide"), "slides": listed(slides)}
        yield sentence("The analysed area of {n} is not known, so densities are not given there: {slides}", pieces)


def _withheld_patients(numbers: Numbers) -> Iterable[Markup]:
    """Patients who lack a value that others have; a value that nobody has is told by its own reason."""
    patients = numbers["patients"]
    columns = [name for name in patients if str(name).split("|")[-1] in MEASURES and patients[name].notna().any()]
    if not columns:
        return
    missing = patients[columns].isna()
    if missing.to_numpy().any():
        lacking = counted(int(missing.any(axis=1).sum()), "patient without", "patients without")
        pieces = {"n": lacking, "patients": listed(patients.loc[missing.any(axis=1), "patient"])}
        yield sentence(
            "{n} at least one population value (withheld, not measured or undefined): {patients}",
            pieces,
        )


def _few(numbers: Numbers) -> Iterable[Markup]:
    patients, rows = numbers["patients"], tests(numbers["statistics"])
    if 0 < len(patients) < FEW_PATIENTS:
        yield sentence("{who} only: estimates move much with each one", {"who": counted(len(patients), "patient")})
    if rows.empty:
        return
    events = pd.to_numeric(rows["n_events"], errors="coerce")
    for endpoint, group in rows[events < FEW_EVENTS].groupby("endpoint", sort=False):
        least = int(pd.to_numeric(group["n_events"]).idxmin())
        pieces = {
            "endpoint": text(endpoint),
            "n": numbers.show("statistics", least, "n_events", "count"),
            "few": FEW_EVENTS,
        }
        yield sentence("{endpoint}: as few as {n} events (fewer than {few} carry no stable hazard ratio)", pieces)


def _infinite(numbers: Numbers) -> Iterable[Markup]:
    statistics = numbers["statistics"]
    rows = statistics.loc[infinite_rows(statistics)]
    for endpoint, group in rows.groupby("endpoint", sort=False) if len(rows) else ():
        pieces = {
            "endpoint": text(endpoint),
            "n": counted(len(group), "Cox coefficient"),
            "subjects": listed(group.apply(subject_of, axis=1), 4),
        }
        yield sentence("{endpoint}: {n} infinite or not to be estimated: {subjects}", pieces)


def _not_proportional(numbers: Numbers) -> Iterable[Markup]:
    """Claimed hazard ratios that may not be one number; the others are marked where they stand."""
    rows = numbers["statistics"]
    if rows.empty or "p_proportional" not in rows:
        return
    checked = rows[pd.to_numeric(rows["p_proportional"], errors="coerce").notna()]
    against = checked[checked.apply(not_proportional, axis=1)] if len(checked) else checked
    claimed = against[against.apply(stands, axis=1)] if len(against) else against
    for endpoint, group in claimed.groupby("endpoint", sort=False) if len(claimed) else ():
        pieces = {"endpoint": text(endpoint), "subjects": listed(group.apply(subject_of, axis=1), 4)}
        yield sentence(
            "{endpoint}: hazards may not be proportional for {subjects}, so that the ratio is a mean over the "
            "follow-up; look at the curves",
            pieces,
        )


def infinite_rows(statistics: pd.DataFrame) -> list[int]:
    """Cox rows whose coefficient ran away or does not exist: said in the note, or seen in the ratio."""
    if statistics.empty:
        return []
    told = statistics["note"].map(text).str.contains("infinite|not estimable|separation", case=False, regex=True)
    return [int(index) for index in statistics.index[(statistics["analysis"] == "cox") & told | runaway(statistics)]]


def listed(names: Iterable[object], most: int = 6) -> str:
    """Names in a row, the first few of many."""
    whole = list(dict.fromkeys(text(name) for name in names))
    rest = f" and {len(whole) - most} more" if len(whole) > most else ""
    return ", ".join(whole[:most]) + rest


def suspects(numbers: Numbers, claimed: Collection[str] = ()) -> list[Suspect]:
    """Slides with a reason to be looked at, the worst first; those that count for no patient come last.

    `claimed` are the markers of what the report claims: their doubts come before those about other markers.
    """
    reasons: dict[str, list[_Reason]] = {}
    for reason in sorted(_reasons(numbers), key=lambda one: one.target.population not in claimed):
        reasons.setdefault(reason.target.slide, []).append(reason)
    can_open = opened(numbers)
    found = [
        Suspect(
            slide,
            tuple(reason.said for reason in given),
            sum(_WEIGHTS[reason.kind] for reason in given)
            + _CLAIMED * any(reason.target.population in claimed for reason in given),
            _commands([reason.target for reason in given]) if slide in can_open else (),
        )
        for slide, given in reasons.items()
    ]
    counts_for_nobody = numbers.control_slides
    return sorted(found, key=lambda one: (one.slide in counts_for_nobody, -one.weight, one.slide))


def claimed_markers(numbers: Numbers, populations: Iterable[str], phenotypes: dict[str, str]) -> set[str]:
    """The markers that decide over populations: a phenotype's are those of its expression."""
    thresholds = numbers["thresholds"]
    markers = list(dict.fromkeys(thresholds["marker"].map(text))) if len(thresholds) else []
    found: set[str] = set()
    for name in populations:
        if name in phenotypes:
            try:
                found |= set(parse_expression(phenotypes[name], markers, phenotypes=phenotypes).markers)
            except PanelError:  # a marker of it has no threshold: nothing can be opened for it
                continue
        else:
            found.add(name)
    return found


def _commands(targets: list[Target]) -> tuple[str, ...]:
    """One command per target; the whole slide alone is not opened where a population shows all of it too."""
    wholly = any(target.population and not target.region for target in targets)
    kept = [target for target in targets if target.region or target.population or not wholly]
    return tuple(dict.fromkeys(target.command for target in kept))


def _reasons(numbers: Numbers) -> Iterable[_Reason]:
    for _index, row in failed(numbers["slides"]).iterrows():
        yield _Reason("failed", "failed", Target(text(row["slide"])))
    qc, thresholds = numbers["qc"], numbers["thresholds"]
    for _index, row in qc[qc["verdict"].isin(["fail", "warn"])].iterrows() if len(qc) else ():
        yield _Reason(str(row["verdict"]), _measured(row), _checked(numbers, row))
    for _index, row in thresholds[thresholds["verdict"] == "cannot tell"].iterrows() if len(thresholds) else ():
        marker = text(row["marker"])
        yield _Reason("unclear", f"no threshold for {marker}", Target(text(row["slide"]), population=marker))
    for _index, row in thresholds[drifted(thresholds)].iterrows() if len(thresholds) else ():
        marker = text(row["marker"])
        yield _Reason("drift", f"{marker}: {text(row['remark'])}", Target(text(row["slide"]), population=marker))
    for _index, row in glassy(numbers["area_ledger"]).iterrows():
        said = f"{as_float(row['glass_percent']):.0f} % glass in {text(row['region'])}"
        yield _Reason("glass", said, Target(text(row["slide"]), region=text(row["region"])))


def _measured(row: pd.Series) -> str:
    """A quality check in a few words; a remark has no value but what it says."""
    if text(row["check"]) == "remark":
        return text(row["explanation"]).removeprefix(f"{text(row['slide'])}: ")
    value = as_float(row["value"])
    measured = "" if math.isnan(value) else f" {value:.3g} {text(row['unit'])}".rstrip()
    return f"{text(row['check'])}{measured} ({row['verdict']})"


def _checked(numbers: Numbers, row: pd.Series) -> Target:
    """What a quality check looked at: the marker that it names ("saturation: CD20"), the region, or the whole slide."""
    slide, check = text(row["slide"]), text(row["check"])
    _kind, _colon, channel = check.partition(": ")
    thresholds, ledger = numbers["thresholds"], numbers["area_ledger"]
    if len(thresholds) and channel in set(thresholds.loc[thresholds["slide"].map(text) == slide, "marker"].map(text)):
        return Target(slide, population=channel)
    rows = ledger[ledger["slide"].map(text) == slide] if len(ledger) else ledger
    return Target(slide, region=_region_in_doubt(check, text(row["explanation"]), rows) if len(rows) else "")


def _region_in_doubt(check: str, told: str, ledger: pd.DataFrame) -> str:
    """The largest excluded region where much is excluded, the region that a remark names; "" else."""
    if check == "excluded tissue":
        excluded = ledger[(ledger["category"] == "excluded") & (ledger["area_mm2"] > 0)]
        return text(excluded.loc[excluded["area_mm2"].idxmax(), "region"]) if len(excluded) else ""
    named = [text(name) for name in ledger["region"] if text(name)] if check == "remark" else []
    return next((name for name in named if f'region "{name}"' in told), "")
