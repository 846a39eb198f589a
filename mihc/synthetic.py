"""Slides, studies and follow-up whose truth is known.

What is drawn is as hard as tissue: nuclei touch, vary in size and brightness, lie in and out of focus, on an uneven
background with autofluorescence and camera noise. Its truth (labels, markers, regions, follow-up) is exact, so that
whatever mihc reports can be held against what was planted.
"""

from __future__ import annotations

from mihc.drawing.follow_up import draw_follow_up
from mihc.drawing.mosaic import draw_mosaic
from mihc.drawing.nuclei import Densities
from mihc.drawing.optics import Optics
from mihc.drawing.slide import DrawnSlide, draw_slide
from mihc.drawing.study import INDEPENDENT, PLANTED, RELATED, draw_study, redraw_follow_up
from mihc.drawing.tissue import Layout, PlantedRegion

__all__ = [
    "INDEPENDENT",
    "PLANTED",
    "RELATED",
    "Densities",
    "DrawnSlide",
    "Layout",
    "Optics",
    "PlantedRegion",
    "draw_follow_up",
    "draw_mosaic",
    "draw_slide",
    "draw_study",
    "redraw_follow_up",
]
