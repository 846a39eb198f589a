"""study.toml as frozen records: what may stand in it, what each key defaults to.

`mihc.studies.toml` reads the file into these and lists every problem.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TISSUE_CLASSES = ("tumour", "stroma", "other", "excluded")  # what an annotation may mean
PRECEDENCE = ("excluded", "tumour", "stroma", "other")
EXCLUDABLE = ("fold", "debris", "bubble", "out of focus")  # what quality masks are called
REGION_SOURCES = ("both", "annotations", "auto", "classifier")
REPAIRS = ("none", "even-odd")
UNCLEAR = ("withhold", "leave_out")
SWITCH = ("off", "on")
HARMONISE = ("none", "batch")
OUTCOME_SPLITS = ("slope_change", "landmark:<time>", "median", "none")
MARKER_SPLITS = ("median", "tertiles", "maxstat", "given")


@dataclass(frozen=True)
class StudyInfo:
    """[study]."""

    name: str


@dataclass(frozen=True)
class Segmentation:
    """[segmentation]."""

    nucleus_diameter_um: float = 8.0  # a hint, not a demand
    cell_expansion_um: float = 4.0  # how far a cell may reach beyond its nucleus
    sensitivity: str = "normal"  # how faint a nucleus may be beside the others: "low" | "normal" | "high"
    method: str = "auto"  # "auto" or "classical" | "cellpose" | "stardist" | "instanseg" | an installed entry point
    weights: str = ""  # file or folder of a trained model, from the study's folder; "" = none


@dataclass(frozen=True)
class Measure:
    """[measure]: what is measured of each cell beside its place, its areas and its means."""

    features: tuple[str, ...] = ("mean",)  # as `mihc.measures.features.known_features` orders them
    spillover_correction: str = "off"  # "on": calls are made by means less the light of touching neighbours
    background_correction: str = "off"  # "on": less what the background around the cell is over the slide's usual one
    autofluorescence_correction: str = "off"  # "on": less what the autofluorescence channel explains


@dataclass(frozen=True)
class ThresholdSettings:
    """[thresholds]."""

    method: str = "auto"
    unclear: str = "withhold"  # "withhold": the patient's value is NaN | "leave_out": the other slides are pooled
    harmonise: str = "none"  # "batch": a slide with a weak threshold may take its batch's (`mihc.batches.offers`)


@dataclass(frozen=True)
class Pdl1:
    """[pdl1]: the PD-L1 marker, and which cells are tumour cells and immune cells."""

    marker: str
    tumour: str  # phenotype expression
    immune: str  # phenotype expression
    immune_within_um: float | None = None  # immune cells of stroma count this near to the tumour; None = all of them


@dataclass(frozen=True)
class Pairs:
    """[pairs]."""

    impossible: tuple[str, ...] = ()  # expressions of two parts that no cell can be both of


@dataclass(frozen=True)
class RegionSettings:
    """[regions]."""

    source: str = "both"  # annotations where a slide has them, else automatic | "annotations" | "auto" | "classifier"
    classes: dict[str, str] = field(default_factory=dict)  # class in the annotation file -> tissue class
    precedence: tuple[str, ...] = PRECEDENCE  # where regions overlap, the first wins
    repair: str = "none"  # an outline that crosses itself: "none" refuses it | "even-odd"
    band_um: float = 25.0  # width of the bands around the tumour's margin
    bands_to_um: float = 250.0  # how far they reach on each side, a multiple of the width
    bands_in_tests: bool = False  # whether patients have a value for each band, which then is tested too


@dataclass(frozen=True)
class Quality:
    """[qc]."""

    exclude: tuple[str, ...] = EXCLUDABLE[:3]  # found areas that are excluded; the others are shown and still counted
    allow_blank: bool = False  # whether a slide may have a channel that is 0 everywhere


@dataclass(frozen=True)
class Outcome:
    """[outcomes.<endpoint>]: follow-up until an event or the last contact."""

    time: str  # column of clinical.csv
    event: str  # column of clinical.csv
    event_value: int | float | str = 1  # the value of the column event that means: it happened
    unit: str = "months"


@dataclass(frozen=True)
class Response:
    """[responses.<name>]: which values of a column count as a response."""

    column: str
    responders: tuple[str, ...]  # every other value stays in the denominator
    change: str = ""  # column: best change of the lesions' size in percent of the start; "" = none
    changes: dict[str, float] = field(default_factory=dict)  # column of such changes -> when, in the unit of `until`
    start: str = ""  # column: time from the start of follow-up to the first response, in the unit of `until`
    until: str = ""  # the endpoint of [outcomes] that ends a response, such as PFS

    @property
    def changes_columns(self) -> tuple[str, ...]:
        """Columns of changes in percent, the best first."""
        return tuple(filter(None, (self.change, *self.changes)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the response is made of or described by."""
        return tuple(filter(None, (self.column, *self.changes_columns, self.start)))


@dataclass(frozen=True)
class Splits:
    """[splits]: how patients are put into groups."""

    outcome: tuple[str, ...] = ("none",)  # by an endpoint's times
    marker: tuple[str, ...] = ("median",)  # by a marker's value
    given: dict[str, float] = field(default_factory=dict)  # "<population>|<class>|<measure>" -> clinical cut-off


@dataclass(frozen=True)
class Robustness:
    """[robustness]: every association under other plausible choices, without each patient, and drawn again."""

    analyse: bool = True
    bootstrap_draws: int = 500  # draws of the patients; 0 = no intervals from them


@dataclass(frozen=True)
class Clinical:
    """[clinical]: how clinical.csv (or .xlsx) is written, and how much of it has to match."""

    sheet: str = ""  # of clinical.xlsx; "" = its only visible one
    encoding: str = "utf-8"
    separator: str = ","
    decimal: str = "."
    min_match: float = 0.5  # share of the slides' patients that must be in clinical.csv


@dataclass(frozen=True)
class Compute:
    """[compute]: changes no result."""

    window: int = 2048  # pixels
    workers: int = 2


@dataclass(frozen=True)
class Settings:
    """The whole of study.toml."""

    study: StudyInfo
    segmentation: Segmentation = Segmentation()
    measure: Measure = Measure()
    thresholds: ThresholdSettings = ThresholdSettings()
    phenotypes: dict[str, str] = field(default_factory=dict)  # name -> expression
    pdl1: Pdl1 | None = None
    pairs: Pairs = Pairs()
    regions: RegionSettings = RegionSettings()
    qc: Quality = Quality()
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    responses: dict[str, Response] = field(default_factory=dict)
    groups: tuple[str, ...] = ()  # columns of clinical.csv
    cox_covariates: tuple[str, ...] = ()  # columns of clinical.csv
    splits: Splits = Splits()
    robustness: Robustness = Robustness()
    clinical: Clinical = Clinical()
    compute: Compute = Compute()

    @property
    def clinical_columns(self) -> tuple[str, ...]:
        """Every column of clinical.csv that study.toml names, each once; no other column is read."""
        timed = [column for outcome in self.outcomes.values() for column in (outcome.time, outcome.event)]
        responses = [column for response in self.responses.values() for column in response.columns]
        return tuple(dict.fromkeys([*timed, *responses, *self.groups, *self.cox_covariates]))
