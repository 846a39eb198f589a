"""P2 to P4: what a slide's metadata, its file's name and unnamed clinical columns say of a person is in no result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from mihc.drawing.slide import draw_slide

ROOT = Path(__file__).parents[1]
NAMES = ("DAPI", "CD3", "CD20")
PANEL = "channel,marker,role,compartment\nDAPI,DAPI,nuclei,nucleus\nCD3,CD3,marker,cell\nCD20,CD20,marker,cell\n"
SETTINGS = '[study]\nname = "private"\n[outcomes.OS]\ntime = "os"\nevent = "dead"\n'
PERSON = "Zauberwald"  # stands in every canary, so that one search finds each of them

OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="{c}" UUID="urn:uuid:{c}">
<Project ID="Project:0" Name="{c}"><Description>{c}</Description></Project>
<Dataset ID="Dataset:0" Name="{c}"><Description>{c}</Description></Dataset>
<Folder ID="Folder:0" Name="{c}"><Description>{c}</Description></Folder>
<Experiment ID="Experiment:0" Type="Other"><Description>{c}</Description></Experiment>
<Plate ID="Plate:0" Name="{c}" ExternalIdentifier="{c}"><Description>{c}</Description></Plate>
<Screen ID="Screen:0" Name="{c}" ProtocolIdentifier="{c}" ReagentSetDescription="{c}"><Description>{c}</Description>
</Screen>
<Experimenter ID="Experimenter:0" FirstName="{c}" MiddleName="{c}" LastName="{c}" Email="{c}" Institution="{c}"
 UserName="{c}"/>
<ExperimenterGroup ID="ExperimenterGroup:0" Name="{c}"><Description>{c}</Description></ExperimenterGroup>
<Instrument ID="Instrument:0"><Microscope Manufacturer="{c}" Model="{c}" SerialNumber="{c}" LotNumber="{c}"/>
<Detector ID="Detector:0" Manufacturer="{c}" Model="{c}" SerialNumber="{c}"/>
<Objective ID="Objective:0" Manufacturer="{c}" Model="{c}" SerialNumber="{c}" NominalMagnification="20"/></Instrument>
<Image ID="Image:0" Name="{c}"><AcquisitionDate>2020-02-03T04:05:06</AcquisitionDate><Description>{c}</Description>
<ImagingEnvironment Temperature="20"><Map><M K="{c}">{c}</M></Map></ImagingEnvironment>
<StageLabel Name="{c}" X="1"/>
<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="{x}" SizeY="{y}" SizeZ="1" SizeC="3" SizeT="1"
 PhysicalSizeX="0.5" PhysicalSizeY="0.5">
{channels}<TiffData IFD="0" PlaneCount="3"/></Pixels></Image>
<StructuredAnnotations><XMLAnnotation ID="Annotation:0" Namespace="{c}"><Description>{c}</Description>
<Value><Patient name="{c}" born="{c}">{c}</Patient></Value></XMLAnnotation>
<CommentAnnotation ID="Annotation:1" Annotator="{c}"><Value>{c}</Value></CommentAnnotation>
<MapAnnotation ID="Annotation:2"><Value><M K="{c}">{c}</M></Value></MapAnnotation>
<TagAnnotation ID="Annotation:3"><Value>{c}</Value></TagAnnotation></StructuredAnnotations></OME>"""
CHANNEL = '<Channel ID="Channel:0:{n}" Name="{name}" Fluor="{c}" SamplesPerPixel="1"/>\n'
TAGS = (305, 315, 316, 285, 269, 33432, 270, 271, 272, 337)  # software, artist, host computer, page, document names ...


def numbered(template: str, **values: object) -> tuple[str, int]:
    """The template with every canary numbered, and how many there are."""
    parts = template.format(**values, c="\0").split("\0")
    return "".join(f"{part}{PERSON}{n:03}" for n, part in enumerate(parts[:-1])) + parts[-1], len(parts) - 1


def write_slide(path: Path, image: np.ndarray) -> int:
    """An OME-TIFF full of canaries; returns how many."""
    channels = "".join(CHANNEL.format(n=n, name=name, c="{c}") for n, name in enumerate(NAMES))
    text, count = numbered(OME.replace("{channels}", channels), x=image.shape[2], y=image.shape[1])
    with tifffile.TiffWriter(path) as tiff:
        for number, plane in enumerate(image):
            tags = [(tag, 2, 0, f"{PERSON}tag{tag}", False) for tag in TAGS if tag not in (270, 305)]
            options = {"description": text} if number == 0 else {"description": f"{PERSON} page {number}"}
            tiff.write(
                plane, photometric="minisblack", metadata=None, extratags=tags if number == 0 else [],
                software=f"{PERSON}software", datetime="2020:02:03 04:05:06", **options,
            )  # fmt: skip
    return count + len(TAGS) + 2


def write_private_study(folder: Path) -> tuple[Path, int]:
    image = np.ascontiguousarray(draw_slide(seed=8, size_px=(256, 256)).image[:3])
    folder.mkdir(parents=True)
    count = write_slide(folder / f"{PERSON}_Anna_1950-02-03.ome.tif", image)
    (folder / "study.toml").write_text(SETTINGS)
    (folder / "panel.csv").write_text(PANEL)
    (folder / "slides.csv").write_text(f"slide,file,patient\nS1,{PERSON}_Anna_1950-02-03.ome.tif,P1\n")
    (folder / "clinical.csv").write_text(
        f"patient,os,dead,Name,DOB,MRN,{PERSON}column\nP1,5,1,{PERSON} Anna,{PERSON}-02-03,{PERSON}4711,{PERSON}\n"
    )
    return folder, count + 4


def run_of(folder: Path) -> list[str]:
    return [sys.executable, "-m", "mihc", "run", str(folder)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def written_with(folder: Path, text: str) -> list[str]:
    """Files and names below a folder that hold a text, in UTF-8 or UTF-16."""
    wanted = (text.encode(), text.encode("utf-16-le"))
    found = []
    for path in folder.rglob("*"):
        inside = path.is_file() and any(each in path.read_bytes() for each in wanted)
        if inside or text in path.relative_to(folder).as_posix():
            found.append(path.relative_to(folder).as_posix())
    return found


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> tuple[Path, int, subprocess.CompletedProcess]:
    """A study whose every free text names a person, in a folder that does too, after its run."""
    folder, count = write_private_study(tmp_path_factory.mktemp("private") / f"{PERSON} archive" / "study")
    done = subprocess.run(run_of(folder), capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    return folder, count, done


def test_P2_sixty_texts_of_a_slides_metadata_reach_no_result(private):
    folder, count, _ = private
    assert count >= 60
    assert (folder / "results" / "report.html").stat().st_size > 10_000
    assert written_with(folder / "results", PERSON) == []
    dated = written_with(folder / "results", "2020-02-03") + written_with(folder / "results", "2020:02:03")
    assert dated == []


def test_P2_the_search_finds_a_text_that_is_there(private, tmp_path):
    (tmp_path / "note.json").write_text(f'{{"who": "{PERSON}"}}')
    (tmp_path / "wide.bin").write_bytes(PERSON.encode("utf-16-le"))
    assert sorted(written_with(tmp_path, PERSON)) == ["note.json", "wide.bin"]
    assert len(written_with(private[0], PERSON)) == 3  # the slide, slides.csv and clinical.csv themselves


def test_P3_results_are_named_after_the_slide_id_and_never_after_its_file(private):
    results = private[0] / "results"
    assert (results / "cells" / "S1.parquet").is_file()
    assert [path.name for path in (results / "slides").iterdir()] == ["S1.ome.zarr"]
    assert written_with(results, "Anna") == []
    assert written_with(results, str(private[0].parent)) == []


def test_P4_a_killed_run_and_its_resumption_leave_no_text_and_no_scratch(tmp_path):
    folder, _ = write_private_study(tmp_path / f"{PERSON} archive" / "study")
    run = subprocess.Popen(
        run_of(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
    )
    while not list((folder / "results" / "slides").glob("*")):  # the slide is stored, its cells are under way
        assert run.poll() is None
        time.sleep(0.02)
    while not list((folder / "results" / ".tmp").glob("*~S1.open")):
        assert run.poll() is None
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    told = run.communicate()[1]
    assert run.returncode == -signal.SIGKILL
    assert PERSON not in told
    assert any((folder / "results" / ".tmp").iterdir())
    assert written_with(folder / "results", PERSON) == []
    done = subprocess.run(run_of(folder), capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    assert written_with(folder / "results", PERSON) == []
    assert list((folder / "results" / ".tmp").iterdir()) == []


def test_P4_a_failed_slide_is_told_by_its_id_in_what_is_kept(tmp_path):
    folder, _ = write_private_study(tmp_path / "study")
    second = folder / f"{PERSON}_broken.ome.tif"
    second.write_bytes(next(folder.glob("*.ome.tif")).read_bytes()[:5000])
    with (folder / "slides.csv").open("a") as slides:
        slides.write(f"S2,{second.name},P2\n")
    done = subprocess.run(run_of(folder), capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 4
    assert "FAILED S2" in done.stdout
    assert written_with(folder / "results", PERSON) == []
