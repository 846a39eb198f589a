"""The texts of a drawn study: what a person would have typed, and what is written beside the truth."""

from __future__ import annotations

CLASS_NAMES = {
    "tumour": "Tumor",
    "stroma": "Stroma",
    "necrosis": "Necrosis",
    "fold": "Fold",
}  # region -> annotator's class

# name: (markers that must be positive, the expression of study.toml)
PHENOTYPES = {
    "B cell": (("CD20",), "CD20+"),
    "proliferating B cell": (("CD20", "Ki67"), "CD20+ Ki67+"),
    "cytotoxic T cell": (("CD3", "CD8"), "CD3+ CD8+"),
}

STUDY_TOML = """\
[study]
name = "Synthetic study with known truth"

[segmentation]
nucleus_diameter_um = 8.0
cell_expansion_um = 2.5

[thresholds]
method = "auto"
unclear = "withhold"

[phenotypes]
{phenotypes}

[regions]
source = "both"
classes = {{ Tumor = "tumour", Stroma = "stroma", Necrosis = "excluded", Fold = "excluded" }}

[outcomes.PFS]
time = "pfs_months"
event = "pfs_event"
event_value = 1
unit = "months"

[outcomes.OS]
time = "os_months"
event = "os_event"
event_value = 1
unit = "months"

[responses.ORR]
column = "best_response"
responders = ["CR", "PR"]

[groups]
columns = ["signature"]

[cox]
covariates = ["liver_metastasis", "ecog"]

[splits]
outcome = ["slope_change"]
marker = ["median"]
""".format(phenotypes="\n".join(f'"{name}" = "{expression}"' for name, (_, expression) in PHENOTYPES.items()))

PANEL = """\
channel,marker,role,compartment,threshold,colour
DAPI,DAPI,nuclei,nucleus,,
PanCK,PanCK,tumour,nucleus,,
CD3,CD3,marker,cell,,
CD8,CD8,marker,cell,,
CD20,CD20,marker,cell,,
CD21,CD21,marker,cell,,
Ki67,Ki67,marker,nucleus,,
AF,AF,autofluorescence,cell,,
"""

README = """\
# What was planted

Nothing here is read by `mihc run`; it is what the run is held against.

- `planted.json`: the population whose density sets the hazard, the hazard ratio per SD of log1p(density), which
  populations are related to it and which are independent, and the recipe of every slide.
- `patients.csv`: the planted density of each patient (cells counted over area, slides pooled), and what was asked for.
- `regions.csv`: per slide, region and population: cells, positive cells, area in mm². A cell belongs to the region that
  holds the centroid of its drawn nucleus; a border belongs to one side only.
- `cells/<slide>.parquet`: every drawn nucleus: centroid in µm, type, region, and each marker's truth.
- `nuclei/<slide>.tif`: the drawn nuclei as uint32 labels.
- `regions/<slide>.geojson`: the drawn regions in full-resolution pixels, glass too.
"""
