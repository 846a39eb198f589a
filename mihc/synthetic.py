"""Slides, studies and follow-up whose truth is known.

What is drawn is as hard as tissue: nuclei touch, vary in size and brightness, lie in and out of focus, on an uneven
background with autofluorescence and camera noise. Its truth (labels, markers, regions, follow-up) is exact, so that
whatever mihc reports can be held against what was planted.

    python -m mihc.synthetic sample_slides      draws the two slides of that folder again
"""

from __future__ import annotations

import sys
from pathlib import Path

from mihc.drawing.faults import Faults, add_faults
from mihc.drawing.follow_up import draw_follow_up
from mihc.drawing.mosaic import draw_mosaic
from mihc.drawing.nuclei import Densities
from mihc.drawing.optics import Optics
from mihc.drawing.samples import draw_samples
from mihc.drawing.slide import DrawnSlide, draw_slide
from mihc.drawing.study import INDEPENDENT, PLANTED, RELATED, draw_study, redraw_follow_up
from mihc.drawing.tissue import Layout, PlantedRegion
from mihc.drawing.truth import compare_with_truth, comparison_summary

__all__ = [
    "INDEPENDENT",
    "PLANTED",
    "RELATED",
    "Densities",
    "DrawnSlide",
    "Faults",
    "Layout",
    "Optics",
    "PlantedRegion",
    "add_faults",
    "compare_with_truth",
    "comparison_summary",
    "draw_follow_up",
    "draw_mosaic",
    "draw_samples",
    "draw_slide",
    "draw_study",
    "redraw_follow_up",
]


if __name__ == "__main__":
    draw_samples(Path(sys.argv[1] if len(sys.argv) > 1 else "sample_slides"))
