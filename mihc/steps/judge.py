"""Values of all slides -> what each slide is to know of its batch.

Nothing is stored here: a judgement is a small computation on a few numbers per slide and marker, made anew in every
run. So jobs of an array never wait for each other, and a slide is called again only when its own part has changed.
"""

from __future__ import annotations

from collections.abc import Mapping

from mihc.batches import MarkerValues, Offer, offers
from mihc.errors import MihcError
from mihc.stages import Job
from mihc.steps.propose import described
from mihc.store import Record

Offers = dict[str, dict[str, Offer | str]]  # slide -> marker -> the batch's threshold, or why there is none


def all_described(job: Job, values: Mapping[str, Record]) -> list[MarkerValues]:
    """Every marker of every slide of slides.csv whose values are known, in the order of slides.csv.

    Parameters
    ----------
    job
        The run. In a job of an array, what other jobs have stored so far of their slides counts too.
    values
        What this run has of its own slides.
    """
    found = []
    for row in job.study.slides:
        record = values.get(row.slide) or stored_values(job, row.slide)
        found += described(record) if record else []
    return found


def batch_offers(job: Job, values: Mapping[str, Record]) -> Offers:
    """What each slide is offered of its batch, where study.toml asks for it."""
    found: Offers = {}
    settings = job.study.settings.thresholds
    if settings.harmonise == "batch" and settings.method != "manual":
        for (slide, marker), offer in offers(all_described(job, values)).items():
            found.setdefault(slide, {})[marker] = offer
    return found


def stored_values(job: Job, slide: str) -> Record | None:
    """What another job of an array stored of a slide's values; a run of all slides knows none but its own.

    One that is just being replaced, or that is damaged, is not known now: the last run of all joins them.
    """
    if job.whole:
        return None
    try:
        return job.store.record("values", slide)
    except MihcError:
        return None
