"""The plots: grouped box plots, survival curves, forest plots, thresholds, slides and their area ledgers.

Every function takes arrays or tables and returns a matplotlib `Figure` made outside pyplot; `save` writes it as SVG and
PNG, the same bytes every time. Nothing here decides what is significant: titles say what the caller found.
"""

from __future__ import annotations

from mihc.plots.outcomes import ForestRow, SurvivalGroup, box_plot, forest_plot, survival_plot
from mihc.plots.overlays import slide_svg
from mihc.plots.pictures import Histogram, SlidePicture, composite, shrunk, value_histogram
from mihc.plots.responses import Course, spider_plot, swimmer_plot, waterfall_plot
from mihc.plots.slides import ledger_plot, slide_overview, threshold_plot
from mihc.plots.style import p_text, plain, png_bytes, safe_name, save, svg_bytes

__all__ = [
    "Course",
    "ForestRow",
    "Histogram",
    "SlidePicture",
    "SurvivalGroup",
    "box_plot",
    "composite",
    "forest_plot",
    "ledger_plot",
    "p_text",
    "plain",
    "png_bytes",
    "safe_name",
    "save",
    "shrunk",
    "slide_overview",
    "slide_svg",
    "spider_plot",
    "survival_plot",
    "svg_bytes",
    "swimmer_plot",
    "threshold_plot",
    "value_histogram",
    "waterfall_plot",
]
