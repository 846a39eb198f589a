"""What a person sees while a run goes on: a bar per slide on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mihc.stages import Event

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(slides: int) -> Iterator[Callable[[Event], None]]:
    """Give a function that shows events: bars where stderr is a terminal, else lines.

    Parameters
    ----------
    slides
        How many slides there are, for the overall bar.
    """
    if sys.stderr.isatty():
        with _bars(slides) as tell:
            yield tell
    else:
        yield _Lines()


class _Lines:
    """One line where a stage ends, and at most one every five seconds while it goes on."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, str], float] = {}

    def __call__(self, event: Event) -> None:
        who = ": ".join(part for part in (event.slide, event.stage) if part)
        now = time.monotonic()
        if event.message:
            print(f"{who}: {event.message}", file=sys.stderr, flush=True)
        elif now - self.last.setdefault((event.slide, event.stage), now) > SECONDS_BETWEEN_LINES:
            print(f"{who}: {event.done} of {event.total}", file=sys.stderr, flush=True)
            self.last[event.slide, event.stage] = now


@contextmanager
def _bars(slides: int) -> Iterator[Callable[[Event], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        overall = bars.add_task("slides", total=slides, note="")
        shown: dict[str, int] = {}

        def tell(event: Event) -> None:
            if event.message.startswith("failed"):
                console.print(f"{event.slide}: {event.message}", style="red", markup=False, highlight=False)
            if event.stage == "done":
                bars.advance(overall)
                if event.slide in shown:
                    bars.remove_task(shown.pop(event.slide))
                return
            name = event.slide or "study"
            if name not in shown:
                shown[name] = bars.add_task(name, total=None, note="")
            bars.update(shown[name], completed=event.done, total=event.total or None, note=event.stage)

        yield tell
