"""The study.toml that `mihc init` writes: every key, explained, at its default or commented out."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mihc.errors import CONTROL

_TEMPLATE = """\
# Settings of a mihc study. Lines that start with # are explanations or examples; remove the # to use an example.
# Only the name is needed; everything else has the value shown. After a change, run: mihc check FOLDER

[study]
name = @NAME@

[segmentation]
nucleus_diameter_um = 8.0        # about how wide a nucleus is, in µm: a hint, not a demand
cell_expansion_um = 4.0          # how far a cell may reach beyond its nucleus, in µm
sensitivity = "normal"           # how faint a nucleus may be beside the others: "low", "normal", "high"
method = "auto"                  # "auto": mihc's own; "cellpose", "stardist" or "instanseg" (type, for example,
                                 # pip install "mihc[cellpose]"); or the name of another installed segmenter
# weights = "models/nuclei"      # the trained model of such a method, a file or folder; nothing is downloaded

# What is measured of each cell beside its place, its areas and the means of its markers: some of median,
# percentile:90 (any number), sd, integrated (sums), shape, background (around the cell), spillover (from neighbours).
@MEASURE@
[thresholds]
method = "auto"                  # "auto": found for each slide and marker that has none in panel.csv or thresholds.csv
                                 # "manual": only given thresholds are used
unclear = "withhold"             # where no threshold can be found on a slide:
                                 # "withhold": its patient gets no value; "leave_out": its other slides are used
harmonise = "none"               # "batch": such a slide may take the threshold of its batch (slides.csv, column batch)
                                 # where the negative cells agree; what it gave alone is kept beside it

# Kinds of cells, in terms of the markers in panel.csv: + is positive, - negative, a space is and, | is or, ! is not;
# ++ is at least moderate and +++ strong, where levels are typed. A kind may name another one, and is then a part of it.
# [phenotypes]
# "B cell" = "CD20+"
# "proliferating B cell" = "B cell & Ki67+"

# What no cell can be both of: how often it is found all the same tells how many cells are wrongly called.
# [pairs]
# impossible = ["CD3+ CD20+"]

# PD-L1 scores (TPS and CPS): the marker, and which cells are tumour cells and immune cells.
# [pdl1]
# marker = "PD-L1"
# tumour = "PanCK+"
# immune = "CD3+ | CD68+"
# immune_within_um = 500.0       # immune cells of stroma count so near to the tumour; without it all of them

[regions]
source = "both"                  # "both": annotations where a slide has them, else found automatically
                                 # "annotations": only annotations; "auto": only automatic
                                 # "classifier": annotations where a slide has them, else a tissue classifier trained
                                 # on strokes in annotations/strokes/<slide>.geojson: lines drawn in QuPath, each
                                 # with a class (pip install "mihc[classifier]")
precedence = ["excluded", "tumour", "stroma", "other"]   # where regions overlap, the first wins
repair = "none"                  # "even-odd": of an outline that crosses itself take what an odd number of loops holds
band_um = 25.0                   # cells are also counted in bands of this width around the tumour's margin, in µm,
bands_to_um = 250.0              # up to this far on each side (bands.csv)
bands_in_tests = false           # true: patients.csv has a value for each band, and they are tested as families of
                                 # their own
# What the classes in your annotation files mean: tumour, stroma, other (counted, but neither) or excluded.
# classes = { Tumor = "tumour", Stroma = "stroma", Necrosis = "excluded" }

[qc]
exclude = ["fold", "debris", "bubble"]   # what is found on a slide and then excluded from every number, annotated or
                                 # not; the rest is shown and still counted. "out of focus" may be named too
allow_blank = false              # true: a slide may have a channel that is 0 everywhere

# Follow-up. The names after the dot are yours; time and event are columns of clinical.csv.
# [outcomes.PFS]
# time = "pfs_months"
# event = "pfs_event"
# event_value = 1                # the value that means: it happened. 1 allows only 0 beside it; for 1/2 write 2
# unit = "months"

# Response to treatment: a column of clinical.csv and its values that count as a response.
# [responses.ORR]
# column = "best_response"
# responders = ["CR", "PR"]      # every other value, NE too, stays in the denominator
# change = "best_change"         # best change of the lesions' size in %, for the waterfall plot
# changes = { change_2m = 2, change_4m = 4 }   # columns of such changes and when they were seen, for the spider plot
# start = "response_months"      # from the start of follow-up to the first response: its duration, the swimmer plot
# until = "PFS"                  # the endpoint that ends a response; times are in its unit

# Other columns of clinical.csv that put patients into groups, such as a mutation or a signature.
# [groups]
# columns = ["signature"]

# Columns of clinical.csv that the multivariable Cox model adjusts for.
# [cox]
# covariates = ["liver_metastasis", "ecog"]

[splits]
outcome = ["none"]               # patients grouped by an endpoint's times:
                                 # slope_change, landmark:12 (a time in its unit), median, none; one or several
marker = ["median"]              # patients grouped by a marker's value: median, tertiles, maxstat, given
# given = { "CD20|tumour|density_per_mm2" = 50.0 }   # a clinical cut-off, used when marker names "given"

[robustness]
analyse = true                   # every association again under the other plausible choices (thresholds within their
                                 # intervals, density or positivity, splits, annotated or automatic regions) and
                                 # without each patient: robustness.csv, robustness_summary.csv, influence.csv
bootstrap_draws = 500            # intervals from drawing the patients again; 0 makes none

[clinical]                       # the table may be clinical.csv or an Excel workbook, clinical.xlsx
# sheet = "patients"             # of a workbook with several
encoding = "utf-8"               # how clinical.csv is written: "utf-8", "latin-1", "cp1252", "utf-16"
separator = ","                  # between its columns: "," or ";"
decimal = "."                    # in its numbers: "." or ","
min_match = 0.5                  # share of the patients with slides that must be in clinical.csv, else mihc refuses

[compute]
window = 2048                    # pixels; changes no result, only memory
workers = 2                      # windows computed at the same time
"""

_MEASURE = """\
# [measure]
# features = ["median", "percentile:90", "shape", "background", "spillover"]
# Calls by means less light that is not the marker's on that cell; "off": the effect is shown and not used.
# spillover_correction = "on"    # of touching neighbours; needs "spillover" among the features
# background_correction = "on"   # of an uneven background; needs "background" among them
# autofluorescence_correction = "on"   # as far as it comes with the channel of that role in panel.csv
"""

_PROPOSED = """\
# Calls may be made by means less light that is not the marker's on that cell; "off": the effect is shown and not used.
# Proposed, because the panel has a channel of autofluorescence (@GLOW@): what glows by itself can look positive for any
# marker, and on drawn slides far more thresholds could be told with these two together. Remove the # of the four lines
# that follow, and look at corrections.csv; thresholds that are typed are then counts of the corrected means.
# [measure]
# features = ["background"]
# background_correction = "on"   # of an uneven background; needs "background" among the features
# autofluorescence_correction = "on"   # as far as it comes with the channel of that role in panel.csv
# spillover_correction = "off"   # of touching neighbours; "on" needs "spillover" among the features
"""


def study_toml(name: str, *, autofluorescence: Sequence[str] = ()) -> str:
    """Return the text of a new study.toml; it proposes corrections where channels of autofluorescence are named."""
    named = ", ".join(CONTROL.sub("?", marker)[:30] for marker in autofluorescence[:3])
    text = _TEMPLATE.replace("@NAME@", json.dumps(name, ensure_ascii=False))
    return text.replace("@MEASURE@", _PROPOSED.replace("@GLOW@", named) if autofluorescence else _MEASURE)
