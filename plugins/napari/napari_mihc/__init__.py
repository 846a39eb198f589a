"""mihc's results in napari."""

from __future__ import annotations

from napari_mihc.review import open_slide_in, review_study

__all__ = ["open_slide_in", "review_study"]
