"""Multiplex immunofluorescence whole slides to numbers an oncology team can publish.

Everything public is importable from here; what is heavy is imported where it is first used.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOME = {
    "Region": "regions",
    "Results": "pipeline",
    "Slide": "slide",
    "Stopped": "stages",
    "Study": "study",
    "Threshold": "positives",
    "assign_regions": "regions",
    "call_positives": "positives",
    "choose_threshold": "positives",
    "count_populations": "regions",
    "grow_cells": "cells",
    "measure_cells": "cells",
    "measured_slides": "results",
    "open_image": "store",
    "open_labels": "store",
    "open_segmenter": "segmenters",
    "open_slide": "slide",
    "population_columns": "results",
    "population_markers": "results",
    "read_regions": "regions",
    "read_study": "study",
    "run": "pipeline",
    "segment_nuclei": "nuclei",
    "slide_cells": "results",
    "slide_image": "results",
    "slide_reference": "nuclei",
    "slide_regions": "results",
    "study_table": "study",
    "viewer_um": "results",
}

_MODULES = ("errors", "review", "statistics", "study")

__all__ = [
    "Region",
    "Results",
    "Slide",
    "Stopped",
    "Study",
    "Threshold",
    "assign_regions",
    "call_positives",
    "choose_threshold",
    "count_populations",
    "errors",
    "grow_cells",
    "measure_cells",
    "measured_slides",
    "open_image",
    "open_labels",
    "open_segmenter",
    "open_slide",
    "population_columns",
    "population_markers",
    "read_regions",
    "read_study",
    "review",
    "run",
    "segment_nuclei",
    "slide_cells",
    "slide_image",
    "slide_reference",
    "slide_regions",
    "statistics",
    "study",
    "study_table",
    "viewer_um",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first asked for."""
    if name in _HOME:
        return getattr(importlib.import_module(f"mihc.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"mihc.{name}")
    raise AttributeError(f"module 'mihc' has no attribute {name!r}")
