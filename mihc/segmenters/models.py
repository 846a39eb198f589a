"""What the adapters of trained models share: weights that are there, and networks that give the same bits each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mihc.errors import InputError


def needed(weights: Path | None, method: str, what: str) -> Path:
    """The weights, or a refusal that says what to put there."""
    if weights is None:
        raise InputError(
            f'the segmenter "{method}" needs weights: {what}',
            fix='Name them in study.toml, [segmentation] weights = "models/...". mihc downloads nothing.',
        )
    return weights


def unreadable(weights: Path, what: str, error: Exception) -> InputError:
    """The refusal of weights that are something else."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return InputError(f"cannot be read as {what}: {first}", place=str(weights), fix="Is it the model you meant?")


@contextmanager
def steady() -> Iterator[None]:
    """Run a torch network on this thread alone: sums then have one order, and workers are what runs side by side."""
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
