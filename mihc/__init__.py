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
    "Study": "study",
    "Threshold": "positives",
    "assign_regions": "regions",
    "call_positives": "positives",
    "choose_threshold": "positives",
    "count_populations": "regions",
    "grow_cells": "cells",
    "measure_cells": "cells",
    "open_slide": "slide",
    "read_regions": "regions",
    "read_study": "study",
    "run": "pipeline",
    "segment_nuclei": "nuclei",
    "slide_reference": "nuclei",
    "study_table": "study",
}

__all__ = [*_HOME, "statistics"]


def __getattr__(name: str) -> object:
    """Import a public name from its module when it is first asked for."""
    if name in _HOME:
        return getattr(importlib.import_module(f"mihc.{_HOME[name]}"), name)
    if name == "statistics":
        return importlib.import_module("mihc.statistics")
    raise AttributeError(f"module 'mihc' has no attribute {name!r}")
