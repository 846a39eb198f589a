"""Small study folders written to disk, whole or with one thing changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from mihc.errors import Problem
from mihc.study import check_study

SETTINGS = """
[study]
name = "small"
[phenotypes]
"proliferating B cell" = "CD20+ Ki67+"
[outcomes.OS]
time = "os_months"
event = "os_event"
[responses.ORR]
column = "response"
responders = ["CR", "PR"]
[groups]
columns = ["signature"]
[cox]
covariates = ["age"]
"""
PANEL = (
    "channel,marker,role,compartment,threshold\n"
    "DAPI,DAPI,nuclei,nucleus,\nCD20,CD20,marker,cell,\nKi67,Ki67,marker,nucleus,\n"
)
SLIDES = "slide,file,patient\nS1,a.tif,P1\nS2,b.tif,P2\nS3,c.tif,P3\n"
CLINICAL = (
    "patient,os_months,os_event,response,signature,age,Name\n"
    "P1,12.5,1,CR,yes,61,Ann\n"
    "P2,3,0,SD,no,70,Bob\n"
    "P3,30,0,PR,yes,55,Eve\n"
)


def write_study(
    folder: Path,
    *,
    settings: str = SETTINGS,
    panel: str = PANEL,
    slides: str = SLIDES,
    clinical: str | bytes | None = CLINICAL,
    thresholds: str | None = None,
) -> Path:
    """A study folder of three slides; the pictures are files of one byte more each, for checks that open none."""
    folder.mkdir(exist_ok=True)
    texts = {
        "study.toml": settings,
        "panel.csv": panel,
        "slides.csv": slides,
        "clinical.csv": clinical,
        "thresholds.csv": thresholds,
    }
    for name, text in texts.items():
        if text is not None:
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    for size, name in enumerate(("a.tif", "b.tif", "c.tif"), 1):
        (folder / name).write_bytes(b"x" * size)
    return folder


def write_picture(
    path: Path, *, channels: Sequence[str] = ("DAPI", "CD20", "Ki67"), pixel_size_um: float | None = 0.5, seed: int = 0
) -> Path:
    """An OME-TIFF of 64 x 48 pixels."""
    image = np.random.default_rng(seed).integers(0, 4000, (len(channels), 64, 48), dtype=np.uint16)
    metadata = {"axes": "CYX", "Channel": {"Name": list(channels)}}
    if pixel_size_um is not None:
        metadata |= {"PhysicalSizeX": pixel_size_um, "PhysicalSizeY": pixel_size_um}
        metadata |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, image, ome=True, metadata=metadata, photometric="minisblack")
    return path


def errors_of(folder: Path, *, open_slides: bool = False) -> list[Problem]:
    return [problem for problem in check_study(folder, open_slides=open_slides) if problem.severity == "error"]


def warnings_of(folder: Path, *, open_slides: bool = False) -> list[Problem]:
    return [problem for problem in check_study(folder, open_slides=open_slides) if problem.severity == "warning"]


def the_error(folder: Path, *, open_slides: bool = False) -> Problem:
    """The one error of a folder in which one thing is wrong."""
    errors = errors_of(folder, open_slides=open_slides)
    assert len(errors) == 1, errors
    return errors[0]
