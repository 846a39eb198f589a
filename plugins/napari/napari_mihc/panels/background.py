"""Work beside the viewer, whose failure is told by whoever asked for it.

napari shows an exception of a worker as a message of its own, with a traceback; so that people read words instead, none
leaves the worker here.
"""

from __future__ import annotations

from collections.abc import Callable

from qtpy.compat import isalive
from qtpy.QtWidgets import QWidget


def in_background(
    owner: QWidget, work: Callable[[], object], then: Callable[[object], None], failed: Callable[[Exception], None]
) -> object:
    """Begin some work in a thread; its result, or what it raised, is told in the viewer's own thread -> the worker.

    An owner that was closed in the meantime is told nothing.
    """
    from napari.qt.threading import create_worker

    def guarded() -> tuple[object, Exception | None]:
        try:
            return work(), None
        except Exception as error:
            return None, error

    def ended(outcome: tuple[object, Exception | None]) -> None:
        result, error = outcome
        if not isalive(owner):
            return
        if error is None:
            then(result)
        else:
            failed(error)

    worker = create_worker(guarded)
    worker.returned.connect(ended)
    worker.start()
    return worker
