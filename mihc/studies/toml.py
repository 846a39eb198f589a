"""study.toml read into `Settings`; unknown keys, wrong types and impossible values are listed, all at once.

A section is read by one function of the list SECTIONS, key by key, so that this file reads like the file it reads.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mihc.corrections import CORRECTIONS
from mihc.errors import CONTROL, Problem, quoted_path
from mihc.segmenters import SENSITIVITIES, known_methods
from mihc.studies import toml_kinds as kinds
from mihc.studies.settings import (
    EXCLUDABLE,
    HARMONISE,
    MARKER_SPLITS,
    REGION_SOURCES,
    REPAIRS,
    SWITCH,
    TISSUE_CLASSES,
    UNCLEAR,
    Clinical,
    Compute,
    Measure,
    Outcome,
    Pairs,
    Pdl1,
    Quality,
    RegionSettings,
    Response,
    Robustness,
    Segmentation,
    Settings,
    Splits,
    StudyInfo,
    ThresholdSettings,
)
from mihc.thresholds import METHODS

FILE = "study.toml"
MOST_BANDS = 100  # on each side of the margin
_REQUIRED = object()


def read_settings(path: Path) -> tuple[Settings | None, list[Problem]]:
    """Read study.toml; the settings are None when the file is no TOML at all.

    Otherwise every key that cannot be used has a problem, and stands at its default.
    """
    try:
        return parse_settings(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return None, [
            Problem(FILE, "there is no study.toml in the folder", f"Run: mihc init {quoted_path(path.parent)}")
        ]
    except UnicodeDecodeError as error:
        return None, [Problem(FILE, f"encoding: byte {error.start} is not UTF-8", "Save the file as UTF-8.")]
    except OSError as error:
        return None, [Problem(FILE, f"cannot be read: {error.strerror}", "Check the file's permissions.")]


def parse_settings(text: str) -> tuple[Settings | None, list[Problem]]:
    """Parse the text of a study.toml, as `read_settings` does."""
    try:
        document = tomllib.loads(text)
        unreadable = sorted(set(_unreadable(document)))
    except RecursionError:
        return None, [Problem(FILE, "is not valid TOML: nested too deeply to be read", "Remove the brackets or dots.")]
    except ValueError as error:  # of TOML, or a number of more digits than any number has
        fix = "Text stands in double quotes, numbers have a decimal point, and each key occurs once."
        return None, [Problem(FILE, f"is not valid TOML: {error}", fix)]
    if unreadable:
        fix = "Names and texts hold letters, digits, signs and spaces."
        return None, [Problem(FILE, f"{found!r} holds a control character", fix) for found in unreadable]
    root = _Section("", document, text, [])
    parts = {name: read(root) for name, read in SECTIONS.items()}
    root.refuse_unknown()
    return Settings(**parts), root.problems


def _unreadable(value: Any) -> Iterator[str]:
    """Keys and texts with a control character; in keys, which become names of columns, tabs and line ends too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _unreadable(key)
            yield from [key] if set(key) & set("\t\r\n") else []
            yield from _unreadable(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _unreadable(inner)
    elif isinstance(value, str) and CONTROL.search(value):
        yield value


class _Section:
    """One table of the file: keys are taken from it by name and type, what is left over is unknown."""

    def __init__(self, path: str, values: Mapping[str, Any], text: str, problems: list[Problem]):
        self.path, self.values, self.text, self.problems = path, values, text, problems
        self.known: list[str] = []

    def problem(self, key: str, what: str, fix: str = "") -> None:
        line = _line_of(self.text, self.path, key)
        place = ", ".join(filter(None, [FILE, f"line {line}" if line else "", f"[{self.path}]" if self.path else ""]))
        self.problems.append(Problem(place, what, fix))

    def subsection(self, key: str) -> _Section:
        values = self.take(key, kinds.table, {})
        return _Section(f"{self.path}.{key}" if self.path else key, values, self.text, self.problems)

    def take(self, key: str, convert: Callable[[Any], Any], default: Any = _REQUIRED) -> Any:
        self.known.append(key)
        if key not in self.values:
            if default is _REQUIRED:
                self.problem("", f"the key `{key}` is missing", f"Add: {key} = ...   under [{self.path}]")
                return ""
            return default
        try:
            return convert(self.values[key])
        except ValueError as error:
            self.problem(key, f"{key} = {_shown(self.values[key])}, needed: {error}")
            return "" if default is _REQUIRED else default

    def refuse_unknown(self) -> None:
        for key in self.values:
            if key not in self.known:
                near = get_close_matches(key.casefold(), self.known, n=1, cutoff=0.6)
                hint = f"; did you mean {near[0]}" if near else f"; here may stand {', '.join(self.known)}"
                self.problem(key, f"unknown key `{key}`{hint}", "Correct the name or remove the key.")


def _line_of(text: str, path: str, key: str) -> int | None:
    """Line of a key, as well as a look at the text can tell; else the line of the table that holds it."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            table = re.sub("[\"']", "", header.group(1)).strip()
            if table == (f"{path}.{key}" if path and key else path or key):
                return number
        elif key and table == path and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    parent, _, own = path.rpartition(".")
    return _line_of(text, parent, own) if path and key else None


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)


def _study(root: _Section) -> StudyInfo:
    section = root.subsection("study")
    info = StudyInfo(name=section.take("name", kinds.text))
    section.refuse_unknown()
    return info


def _segmentation(root: _Section) -> Segmentation:
    section, default = root.subsection("segmentation"), Segmentation()
    taken = Segmentation(
        section.take("nucleus_diameter_um", kinds.number("µm", 2, 100), default.nucleus_diameter_um),
        section.take("cell_expansion_um", kinds.number("µm", 0, 50), default.cell_expansion_um),
        section.take("sensitivity", kinds.one_of(SENSITIVITIES), default.sensitivity),
        section.take("method", _one_of_the_segmenters, default.method),
        section.take("weights", kinds.text, default.weights),
    )
    section.refuse_unknown()
    return taken


def _measure(root: _Section) -> Measure:
    section, default = root.subsection("measure"), Measure()
    taken = Measure(
        section.take("features", kinds.features, default.features),
        *(section.take(f"{one}_correction", kinds.one_of(SWITCH), "off") for one in CORRECTIONS),
    )
    for name in ("spillover", "background"):
        key = f"{name}_correction"
        if getattr(taken, key) == "on" and name not in taken.features:
            what = f'{key} = "on" corrects by a {name} that is not measured'
            section.problem(key, what, f'Write features = ["{name}"] under [measure], beside what stands there.')
    section.refuse_unknown()
    return taken


def _one_of_the_segmenters(value: Any) -> str:
    return kinds.one_of(known_methods())(value)


def _thresholds(root: _Section) -> ThresholdSettings:
    section, default = root.subsection("thresholds"), ThresholdSettings()
    taken = ThresholdSettings(
        section.take("method", kinds.one_of(METHODS), default.method),
        section.take("unclear", kinds.one_of(UNCLEAR), default.unclear),
        section.take("harmonise", kinds.one_of(HARMONISE), default.harmonise),
    )
    section.refuse_unknown()
    return taken


def _phenotypes(root: _Section) -> dict[str, str]:
    section = root.subsection("phenotypes")
    taken = {name: section.take(name, kinds.text, "") for name in section.values}
    for name in taken:
        if "|" in name or '"' in name or name != name.strip() or not name:
            section.problem(name, f"phenotype name {name!r} holds |, a quote or outer spaces", "Choose a plain name.")
    return {name: expression for name, expression in taken.items() if expression}


def _pdl1(root: _Section) -> Pdl1 | None:
    section = root.subsection("pdl1")
    if "pdl1" not in root.values:
        return None
    taken = Pdl1(
        section.take("marker", kinds.text),
        section.take("tumour", kinds.text),
        section.take("immune", kinds.text),
        section.take("immune_within_um", kinds.number("µm", 1, 100_000), None),
    )
    section.refuse_unknown()
    return taken


def _pairs(root: _Section) -> Pairs:
    section = root.subsection("pairs")
    taken = Pairs(section.take("impossible", kinds.texts, ()))
    section.refuse_unknown()
    return taken


def _regions(root: _Section) -> RegionSettings:
    section, default = root.subsection("regions"), RegionSettings()
    source = section.take("source", kinds.one_of(REGION_SOURCES), default.source)
    classes = section.subsection("classes")
    mapped = {name: classes.take(name, kinds.one_of(TISSUE_CLASSES), "") for name in classes.values}
    taken = RegionSettings(
        source,
        {name: tissue_class for name, tissue_class in mapped.items() if tissue_class},
        section.take("precedence", kinds.precedence, default.precedence),
        section.take("repair", kinds.one_of(REPAIRS), default.repair),
        section.take("band_um", kinds.number("µm", 1, 1000), default.band_um),
        section.take("bands_to_um", kinds.number("µm", 1, 5000), default.bands_to_um),
        section.take("bands_in_tests", kinds.yes_or_no, default.bands_in_tests),
    )
    _refuse_part_bands(section, taken)
    section.refuse_unknown()
    return taken


def _refuse_part_bands(section: _Section, taken: RegionSettings) -> None:
    """The bands of each side must fill their reach, and be few enough to be looked at."""
    count = taken.bands_to_um / taken.band_um
    if count != round(count) or not 1 <= count <= MOST_BANDS:
        what = f"bands_to_um = {taken.bands_to_um:g} is not 1 to {MOST_BANDS} times band_um = {taken.band_um:g}"
        section.problem("bands_to_um", what, f"Write for example bands_to_um = {10 * taken.band_um:g}.")


def _qc(root: _Section) -> Quality:
    section, default = root.subsection("qc"), Quality()
    taken = Quality(
        section.take("exclude", kinds.some_of(EXCLUDABLE), default.exclude),
        section.take("allow_blank", kinds.yes_or_no, default.allow_blank),
    )
    section.refuse_unknown()
    return taken


def _outcomes(root: _Section) -> dict[str, Outcome]:
    outcomes = root.subsection("outcomes")
    taken = {}
    for name in outcomes.values:
        section = outcomes.subsection(name)
        taken[name] = Outcome(
            section.take("time", kinds.text),
            section.take("event", kinds.text),
            section.take("event_value", kinds.event_value, 1),
            section.take("unit", kinds.text, "months"),
        )
        section.refuse_unknown()
    return taken


def _responses(root: _Section) -> dict[str, Response]:
    responses = root.subsection("responses")
    taken = {}
    for name in responses.values:
        section = responses.subsection(name)
        column, responders = section.take("column", kinds.text), tuple(section.take("responders", kinds.texts))
        dated = section.subsection("changes")
        times = {key: dated.take(key, kinds.number("the unit of `until`", 0, 1e5), None) for key in dated.values}
        taken[name] = Response(
            column,
            responders,
            section.take("change", kinds.text, ""),
            {key: time for key, time in times.items() if time is not None},
            section.take("start", kinds.text, ""),
            section.take("until", kinds.text, ""),
        )
        _refuse_endless(section, root, taken[name])
        section.refuse_unknown()
    return taken


def _refuse_endless(section: _Section, root: _Section, taken: Response) -> None:
    """A response that starts must end, by an endpoint of the study, whose unit its times have."""
    endpoints = root.values.get("outcomes", {})
    if taken.until and taken.until not in endpoints:
        named = f"[outcomes] has {', '.join(endpoints) or 'none'}"
        section.problem("until", f'until = "{taken.until}" is no endpoint of study.toml; {named}')
    if (taken.start or taken.changes) and not taken.until:
        key = "start" if taken.start else "changes"
        section.problem(key, f"`{key}` has times, but nothing says their unit", 'Add until = "PFS", an endpoint.')


def _groups(root: _Section) -> tuple[str, ...]:
    section = root.subsection("groups")
    taken = section.take("columns", kinds.texts, ())
    section.refuse_unknown()
    return taken


def _cox(root: _Section) -> tuple[str, ...]:
    section = root.subsection("cox")
    taken = section.take("covariates", kinds.texts, ())
    section.refuse_unknown()
    return taken


def _splits(root: _Section) -> Splits:
    section, default = root.subsection("splits"), Splits()
    outcome = section.take("outcome", kinds.outcome_splits, default.outcome)
    marker = section.take("marker", kinds.some_of(MARKER_SPLITS), default.marker)
    cuts = section.subsection("given")
    given = {name: cuts.take(name, kinds.number("the measure's own unit", 0, 1e12), None) for name in cuts.values}
    if ("given" in marker) != bool(cuts.values):
        what = 'marker names "given" but there is no cut-off' if "given" in marker else "cut-offs that no split uses"
        fix = 'Write marker = ["given"] and given = { "CD20|tumour|density_per_mm2" = 50.0 }, or neither.'
        section.problem("given", what, fix)
    section.refuse_unknown()
    return Splits(outcome, marker, {name: cut for name, cut in given.items() if cut is not None})


def _robustness(root: _Section) -> Robustness:
    section, default = root.subsection("robustness"), Robustness()
    taken = Robustness(
        section.take("analyse", kinds.yes_or_no, default.analyse),
        section.take("bootstrap_draws", kinds.whole_number(0, 100_000), default.bootstrap_draws),
    )
    section.refuse_unknown()
    return taken


def _clinical(root: _Section) -> Clinical:
    section, default = root.subsection("clinical"), Clinical()
    taken = Clinical(
        section.take("sheet", kinds.text, default.sheet),
        section.take("encoding", kinds.encoding, default.encoding),
        section.take("separator", kinds.one_of((",", ";", "\t")), default.separator),
        section.take("decimal", kinds.one_of((".", ",")), default.decimal),
        section.take("min_match", kinds.number("share of the patients", 0, 1), default.min_match),
    )
    section.refuse_unknown()
    return taken


def _compute(root: _Section) -> Compute:
    section, default = root.subsection("compute"), Compute()
    taken = Compute(
        section.take("window", kinds.whole_number(64, 65536), default.window),
        section.take("workers", kinds.whole_number(1, 4096), default.workers),
    )
    section.refuse_unknown()
    return taken


SECTIONS: dict[str, Callable[[_Section], Any]] = {
    "study": _study,
    "segmentation": _segmentation,
    "measure": _measure,
    "thresholds": _thresholds,
    "phenotypes": _phenotypes,
    "pdl1": _pdl1,
    "pairs": _pairs,
    "regions": _regions,
    "qc": _qc,
    "outcomes": _outcomes,
    "responses": _responses,
    "groups": _groups,
    "cox_covariates": _cox,
    "splits": _splits,
    "robustness": _robustness,
    "clinical": _clinical,
    "compute": _compute,
}
