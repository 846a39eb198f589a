"""Reviews by people: open a slide, correct it, save, and see what it changes. Without any screen.

    open_review(study, slide, reviewer)   a Session: every gesture is on the disk when its call returns
    save(folder, ...)                     the numbers follow: only what the edits touch is computed -> Changes
    get_ready()                           load what the first save waits for
    slide_list(study, ...)                the slides with their checks and how far their review is
    slide_checks(study, slide)            what the checks of a slide have to say
    try_strokes(study, slide, strokes)    what a tissue classifier would make of the slide; keep_trial accepts it
    compare(study, slide, one, other)     two reviewers beside each other
    choose_final(folder, reviewer, ...)   whose review counts

The parts are in `mihc.reviewing`; what lies on the disk, and how `mihc run` takes it, in `mihc.reviews`.
"""

from __future__ import annotations

from mihc.exports.geojson import write_regions
from mihc.reviewing.comparing import Comparison, compare
from mihc.reviewing.overview import choose_final, final_reviewer, slide_checks, slide_list
from mihc.reviewing.painting import Painted, Trial, keep_trial, painted_strokes, try_strokes
from mihc.reviewing.saving import Changes, get_ready, save
from mihc.reviewing.session import Session, open_review
from mihc.reviews.final import reviewers
from mihc.reviews.journal import reviewer_name
from mihc.reviews.live import LiveCounts
from mihc.reviews.runs import EditedLabels

__all__ = [
    "Changes",
    "Comparison",
    "EditedLabels",
    "LiveCounts",
    "Painted",
    "Session",
    "Trial",
    "choose_final",
    "compare",
    "final_reviewer",
    "get_ready",
    "keep_trial",
    "open_review",
    "painted_strokes",
    "reviewer_name",
    "reviewers",
    "save",
    "slide_checks",
    "slide_list",
    "try_strokes",
    "write_regions",
]
