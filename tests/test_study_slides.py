"""What a check of the slides themselves finds, and the files that are written for a folder of slides."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide_fixtures import Tile, czi_xml, write_czi
from study_folders import (
    PANEL,
    SETTINGS,
    errors_of,
    the_error,
    warnings_of,
    write_picture,
    write_study,
)

from mihc.errors import InputError
from mihc.studies.first_panel import first_panel
from mihc.studies.start import clean_id
from mihc.study import check_study, init_study, read_study


@pytest.fixture
def folder(tmp_path) -> Path:
    """A good study of three pictures of 64 x 48 pixels of 0.5 µm."""
    study = write_study(tmp_path / "study")
    for seed, name in enumerate(("a.tif", "b.tif", "c.tif")):
        write_picture(study / name, seed=seed)
    (study / "annotations").mkdir()
    return study


def annotate(folder: Path, slide: str, *corners: tuple[float, float], name: str = "Tumor") -> None:
    ring = [list(corner) for corner in (*corners, corners[0])]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}},
    }
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    (folder / "annotations" / f"{slide}.geojson").write_text(text)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_good_study_has_no_problem(folder):
    annotate(folder, "S1", (0, 0), (40, 0), (40, 40), (0, 40))
    assert check_study(folder) == []


def test_a_threshold_of_every_slide_is_held_against_slides_of_its_marker_only(folder):
    """Two panels, and S3's has no CD20."""
    write_picture(folder / "c.tif", channels=("DAPI", "Ki67"), seed=9)
    head, nuclei, cd20, ki67 = PANEL.splitlines()
    lines = [
        f"panel,{head}",
        *(f"A,{line}" for line in (nuclei, cd20, ki67)),
        *(f"B,{line}" for line in (nuclei, ki67)),
    ]
    (folder / "panel.csv").write_text("\n".join(lines) + "\n")
    (folder / "slides.csv").write_text("slide,file,patient,panel\nS1,a.tif,P1,A\nS2,b.tif,P2,A\nS3,c.tif,P3,B\n")
    for marker, slides in (("CD20", ["S1", "S2"]), ("Ki67", ["S1", "S2", "S3"])):
        (folder / "thresholds.csv").write_text(f"slide,marker,value\n*,{marker},70000\n")
        found = [one.place for one in errors_of(folder, open_slides=True)]
        assert found == [f"slide {slide}, thresholds.csv" for slide in slides]


def test_SL10_a_slide_without_pixel_size_is_named_with_the_column_to_fill(folder):
    write_picture(folder / "b.tif", pixel_size_um=None, seed=9)
    problem = the_error(folder, open_slides=True)
    assert problem.place.startswith("slide S2")
    assert "no physical pixel size" in problem.what
    assert "pixel_size_um" in problem.fix
    slides = "slide,file,patient,pixel_size_um\nS1,a.tif,P1,\nS2,b.tif,P2,0.5\nS3,c.tif,P3,\n"
    (folder / "slides.csv").write_text(slides)
    assert errors_of(folder, open_slides=True) == []


def test_PC4_a_marker_that_the_slide_lacks_is_refused_with_what_it_has(folder):
    write_picture(folder / "b.tif", channels=("DAPI", "CD8", "Ki67"), seed=9)
    problem = the_error(folder, open_slides=True)
    assert problem.place.startswith("slide S2")
    assert "CD20" in problem.what
    assert "CD8" in problem.what


def test_PC8_a_threshold_that_no_pixel_can_reach_is_refused(folder):
    (folder / "thresholds.csv").write_text("slide,marker,value\nS2,CD20,65536\n*,Ki67,65535\n")
    problem = the_error(folder, open_slides=True)
    assert problem.place == "slide S2, thresholds.csv"
    assert "threshold 65536 of CD20 is above 65535" in problem.what
    (folder / "thresholds.csv").write_text("slide,marker,value\n*,CD20,65536\n")
    assert {one.place for one in errors_of(folder, open_slides=True)} == {
        f"slide {slide}, thresholds.csv" for slide in ("S1", "S2", "S3")
    }
    (folder / "thresholds.csv").unlink()
    (folder / "panel.csv").write_text(PANEL.replace("CD20,CD20,marker,cell,", "CD20,CD20,marker,cell,70000"))
    assert len(errors_of(folder, open_slides=True)) == 3


def test_PC5_a_channel_that_the_panel_lacks_is_warned_of(folder):
    write_picture(folder / "b.tif", channels=("DAPI", "CD20", "Ki67", "CD3"), seed=9)
    assert errors_of(folder, open_slides=True) == []
    assert any("3: CD3" in problem.what for problem in warnings_of(folder, open_slides=True))
    for channel in ("CD3", "cd3", "3"):
        (folder / "panel.csv").write_text(PANEL + f"{channel},unused,ignore,cell,\n")
        assert not any("3: CD3" in problem.what for problem in warnings_of(folder, open_slides=True))
    (folder / "panel.csv").write_text(PANEL + "CD3,CD3,ignore,cell,\n")
    other = "slide,file,patient\nS2,b.tif,P2\n"
    (folder / "slides.csv").write_text(other)
    assert not any("CD3" in problem.what for problem in warnings_of(folder, open_slides=True))


def test_SL44_the_same_bytes_under_two_names_are_refused(folder):
    shutil.copy(folder / "a.tif", folder / "c.tif")
    assert "duplicate content S1=S3" in the_error(folder).what


def test_one_scene_by_its_name_and_by_its_index_is_the_same_scene(folder):
    write_scenes(folder / "two.ome.tif", ["A", "B"])
    (folder / "slides.csv").write_text("slide,file,patient,scene\nS1,two.ome.tif,P1,0\nS2,two.ome.tif,P2,A\n")
    problem = the_error(folder, open_slides=True)
    assert problem.place == "slides.csv, slide S2, column scene"
    assert problem.what == "scene 'A' of two.ome.tif is the scene '0' of slide S1"
    (folder / "slides.csv").write_text("slide,file,patient,scene\nS1,two.ome.tif,P1,0\nS2,two.ome.tif,P2,B\n")
    assert errors_of(folder, open_slides=True) == []


def test_two_scenes_of_one_name_are_told_apart_by_their_index(folder):
    write_scenes(folder / "two.ome.tif", ["A", "A"])
    (folder / "slides.csv").write_text("slide,file,patient,scene\nS1,two.ome.tif,P1,0\nS2,two.ome.tif,P2,1\n")
    assert errors_of(folder, open_slides=True) == []


def write_scenes(path: Path, names: list[str]) -> None:
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "CD20", "Ki67"]}}
    metadata |= {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=True) as writer:
        for value, name in enumerate(names):
            image = np.full((3, 64, 48), value, dtype=np.uint16)
            writer.write(image, photometric="minisblack", metadata=metadata | {"Name": name})


def test_slides_of_one_size_that_differ_in_one_byte_are_no_copies(folder):
    content = bytearray((folder / "a.tif").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "c.tif").write_bytes(content)
    assert errors_of(folder) == []


def test_AN8_an_unknown_class_is_listed_and_mapped_in_study_toml(folder):
    annotate(folder, "S1", (0, 0), (40, 0), (40, 40), (0, 40), name="Zone 7")
    assert "Zone 7" in the_error(folder, open_slides=True).what
    (folder / "study.toml").write_text(SETTINGS + '[regions]\nclasses = { "Zone 7" = "stroma" }\n')
    assert errors_of(folder, open_slides=True) == []


def test_AN12_a_region_beyond_the_slide_is_refused(folder):
    annotate(folder, "S1", (0, 0), (60, 0), (60, 40), (0, 40))  # the slide is 48 pixels wide
    assert "outside" in the_error(folder, open_slides=True).what


def test_AN21_annotations_copied_from_another_picture_are_warned_of(folder):
    for slide in ("S1", "S2"):
        annotate(folder, slide, (0, 0), (40, 0), (40, 40), (0, 40))
    annotate(folder, "S3", (0, 0), (40, 0), (40, 40), (0, 30))
    (problem,) = check_study(folder)
    assert (problem.place, problem.severity) == ("slide S2, annotations", "warning")
    assert problem.what == "S2.geojson is a copy of S1.geojson, slide S1"
    for slide in ("S1", "S2"):
        (folder / "annotations" / f"{slide}.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    assert not any("copy" in one.what for one in check_study(folder))


def test_AN21_a_file_named_after_another_slide_or_used_for_two_pictures_is_refused(folder):
    annotate(folder, "S1", (0, 0), (40, 0), (40, 40), (0, 40))
    header = "slide,file,patient,annotations\n"
    (folder / "slides.csv").write_text(header + "S1,a.tif,P1,\nS2,b.tif,P2,annotations/S1.geojson\n")
    assert "S1.geojson is named after slide S1" in the_error(folder).what
    (folder / "annotations" / "S1.geojson").rename(folder / "drawn.geojson")
    (folder / "slides.csv").write_text(header + "S1,a.tif,P1,drawn.geojson\nS2,b.tif,P2,drawn.geojson\n")
    assert "drawn.geojson is the file of slide S1 too, another picture" in the_error(folder).what
    header = "slide,file,scene,patient,annotations\n"  # two scenes of a file are two pictures, each with its own origin
    (folder / "slides.csv").write_text(header + "S1,a.tif,0,P1,drawn.geojson\nS2,a.tif,1,P2,drawn.geojson\n")
    assert "drawn.geojson is the file of slide S1 too, another picture" in the_error(folder).what


def test_AN22_a_slide_without_annotations_is_refused_where_study_toml_wants_them_and_else_found_automatically(folder):
    (folder / "slides.csv").write_text("slide,file,patient\nS1,a.tif,P1\n")
    assert errors_of(folder, open_slides=True) == []
    (folder / "study.toml").write_text(SETTINGS + '[regions]\nsource = "annotations"\n')
    assert the_error(folder).place == "slides.csv, slide S1"
    assert "has no annotations" in the_error(folder).what
    (folder / "t.csv").write_text("x_um,y_um,CD20_positive,Ki67_positive\n1,1,1,0\n")
    (folder / "slides.csv").write_text("slide,file,patient,control,cells\nS1,a.tif,,isotype,\nS2,,P2,,t.csv\n")
    assert errors_of(folder) == []  # a control is counted for nobody, and a table of cells brings its own regions


@pytest.mark.parametrize("suffix", [".geojson", ".annotations", ".roi", ".zip", ".xml"])
def test_annotations_of_every_program_are_found_by_the_slides_id(folder, suffix):
    from region_files import asap_annotation, feature, roi_polygon, write_asap, write_geojson, write_halo, zipped

    ring, path = [[0, 0], [40, 0], [40, 40], [0, 40], [0, 0]], folder / "annotations" / f"S1{suffix}"
    path.parent.mkdir(exist_ok=True)
    if suffix == ".geojson":
        write_geojson(path, [feature([ring])])
    elif suffix == ".annotations":
        write_halo(path, "Tumor", [ring], [])
    elif suffix == ".xml":
        write_asap(path, asap_annotation(ring))
    else:
        path.write_bytes(roi_polygon(ring) if suffix == ".roi" else zipped({"a.roi": roi_polygon(ring)}))
    assert read_study(folder).slides[0].annotations == path
    assert errors_of(folder, open_slides=True) == []


def test_annotations_are_looked_at_even_where_the_slide_cannot_be_opened(folder):
    write_picture(folder / "a.tif", pixel_size_um=None, seed=9)
    (folder / "annotations" / "S1.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    errors = errors_of(folder, open_slides=True)
    assert len(errors) == 2
    assert any("no regions" in problem.what for problem in errors)


def test_an_annotation_file_that_is_missing_is_one_problem(folder):
    (folder / "slides.csv").write_text("slide,file,patient,annotations\nS1,a.tif,P1,gone.geojson\nS2,b.tif,P2,\n")
    assert the_error(folder, open_slides=True).place == "slides.csv, line 2, column annotations"


def test_slides_are_not_opened_unless_asked(tmp_path):
    assert errors_of(write_study(tmp_path / "study"), open_slides=False) == []
    assert len(errors_of(write_study(tmp_path / "study"), open_slides=True)) == 3


# --- init ---


def test_init_writes_a_study_that_checks_without_error(tmp_path):
    write_picture(tmp_path / "Case 12_ÄB.ome.tif", channels=("DAPI", "PanCK", "Ki67", "CD8", "Autofluorescence"))
    (tmp_path / "more").mkdir()
    write_picture(
        tmp_path / "more" / "x.ome.tiff", channels=("PanCK", "DAPI", "Ki67", "CD8", "Autofluorescence"), seed=1
    )
    report = init_study(tmp_path)
    assert {path.name for path in report.written} == {
        "study.toml",
        "panel.csv",
        "slides.csv",
        "clinical.csv",
        "annotations",
    }
    assert [(row["slide"], row["file"], row["patient"]) for row in rows_of(tmp_path / "slides.csv")] == [
        ("Case_12_AB", "Case 12_ÄB.ome.tif", "Case_12_AB"),
        ("x", "more/x.ome.tiff", "x"),
    ]
    assert [(row["marker"], row["role"], row["compartment"]) for row in rows_of(tmp_path / "panel.csv")] == [
        ("DAPI", "nuclei", "nucleus"),
        ("PanCK", "tumour", "cell"),
        ("Ki67", "marker", "nucleus"),
        ("CD8", "marker", "cell"),
        ("Autofluorescence", "autofluorescence", "cell"),
    ]
    assert "panel" not in rows_of(tmp_path / "panel.csv")[0]  # one panel needs no name
    assert rows_of(tmp_path / "clinical.csv") == [{"patient": "Case_12_AB"}, {"patient": "x"}]
    assert any("may identify patients" in note for note in report.notes)
    assert errors_of(tmp_path, open_slides=True) == []
    assert read_study(tmp_path).settings.study.name == tmp_path.name
    assert "autofluorescence (Autofluorescence)" in (tmp_path / "study.toml").read_text()


def test_init_proposes_no_correction_without_a_channel_of_autofluorescence(tmp_path):
    write_picture(tmp_path / "a.ome.tif", channels=("DAPI", "CD8"))
    init_study(tmp_path)
    assert "Proposed" not in (tmp_path / "study.toml").read_text()


def test_init_never_overwrites(tmp_path):
    write_picture(tmp_path / "a.ome.tif")
    (tmp_path / "panel.csv").write_text("mine")
    report = init_study(tmp_path)
    assert (tmp_path / "panel.csv").read_text() == "mine"
    assert "panel.csv was there before and is kept as it is." in report.notes
    assert tmp_path / "panel.csv" not in report.written
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    again = init_study(tmp_path)
    assert again.written == ()
    assert not any("Slide ids come from" in note for note in again.notes)  # they come from the slides.csv that was kept
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_init_gives_slides_with_other_channels_a_panel_of_their_own(tmp_path):
    write_picture(tmp_path / "a.ome.tif", channels=("DAPI", "CD20"))
    write_picture(tmp_path / "b.ome.tif", channels=("DAPI", "CD3"), seed=1)
    write_picture(tmp_path / "c.ome.tif", channels=("CD20", "DAPI"), seed=2)
    init_study(tmp_path)
    assert [row["panel"] for row in rows_of(tmp_path / "slides.csv")] == ["panel1", "panel2", "panel1"]
    study = read_study(tmp_path)
    assert study.populations() == {"CD20": frozenset(["panel1"]), "CD3": frozenset(["panel2"])}


def test_init_with_pseudonyms_keeps_file_names_in_slides_csv_only(tmp_path):
    write_picture(tmp_path / "Smith.ome.tif")
    write_picture(tmp_path / "Jones.ome.tif", seed=1)
    init_study(tmp_path, pseudonyms=True)
    assert [row["slide"] for row in rows_of(tmp_path / "slides.csv")] == ["S001", "S002"]
    assert [row["patient"] for row in rows_of(tmp_path / "slides.csv")] == ["S001", "S002"]
    for name in ("study.toml", "panel.csv", "clinical.csv"):
        text = (tmp_path / name).read_text()
        assert "Smith" not in text and "Jones" not in text
    assert (tmp_path / "slides.csv").stat().st_mode & 0o077 == 0


def test_init_lists_what_it_cannot_use_with_what_to_type(tmp_path):
    write_picture(tmp_path / "a.ome.tif", pixel_size_um=None)
    (tmp_path / "b.czi").write_text("not a slide")
    report = init_study(tmp_path)
    assert any("pixel_size_um" in note for note in report.notes)
    assert any(note.startswith("b.czi cannot be read") for note in report.notes)
    assert [row["slide"] for row in rows_of(tmp_path / "slides.csv")] == ["a", "b"]


def test_CL1_init_without_slides_is_an_error_of_the_input(tmp_path):
    (tmp_path / "results").mkdir()
    write_picture(tmp_path / "results" / "a.ome.tif")
    with pytest.raises(InputError, match="0 files match") as raised:
        init_study(tmp_path)
    assert raised.value.exit_code == 3
    assert {path.name for path in tmp_path.iterdir()} == {"results"}


def test_names_become_ids_that_every_system_can_write():
    assert clean_id("Case 12 (b).ome.tiff") == "Case_12_b"
    assert clean_id("CON.czi") == "S_CON"
    assert clean_id("日本.czi") == "slide"
    assert clean_id("x" * 90 + ".tif") == "x" * 64
    assert clean_id("../=x.qptiff") == "x"


def test_two_files_of_one_name_get_different_ids(tmp_path):
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        write_picture(tmp_path / name / ("Slide.ome.tif" if number else "slide.ome.tif"), seed=number)
    init_study(tmp_path)
    assert [row["slide"] for row in rows_of(tmp_path / "slides.csv")] == ["slide", "Slide-2"]


@pytest.mark.parametrize(
    ("channel", "role", "compartment", "marker"),
    [
        ("DAPI", "nuclei", "nucleus", "DAPI"),
        ("Hoechst 33342", "nuclei", "nucleus", "Hoechst 33342"),
        ("DAPI-01", "nuclei", "nucleus", "DAPI-01"),
        ("CK-EPCAM", "tumour", "cell", "CK-EPCAM"),
        ("Pan-Cytokeratin", "tumour", "cell", "Pan-Cytokeratin"),
        ("CK5", "tumour", "cell", "CK5"),
        ("CD8 (Opal 540)", "marker", "cell", "CD8"),
        ("Ki-67", "marker", "nucleus", "Ki-67"),
        ("FoxP3", "marker", "nucleus", "FoxP3"),
        ("AF", "autofluorescence", "cell", "AF"),
        ("AF488", "marker", "cell", "AF488"),  # a dye, not autofluorescence
        ("PD-L1", "marker", "cell", "PD-L1"),
        ("p53", "marker", "nucleus", "p53"),
    ],
)
def test_the_role_of_a_channel_is_guessed_from_its_name(channel, role, compartment, marker):
    row = first_panel([channel])[0]
    assert (row["role"], row["compartment"], row["marker"]) == (role, compartment, marker)


def test_channels_without_a_name_of_their_own_are_named_by_index():
    rows = first_panel(["", "CD3", "CD3", '=a|"b"'])
    assert [row["channel"] for row in rows] == ["0", "1", "2", "3"]
    assert len({row["marker"] for row in rows}) == 4
    assert rows[3]["marker"] == "a b"


def test_a_first_panel_can_be_read_back(tmp_path):
    write_picture(tmp_path / "a.ome.tif", channels=("DAPI", "", "CD3", "CD3"))
    init_study(tmp_path)
    markers = [row.marker for row in read_study(tmp_path).panels[""].markers]
    assert markers == ["channel 1", "CD3", "CD3 3"]


def test_init_gives_every_scene_of_a_file_a_row(tmp_path):
    picture = np.arange(2 * 32 * 32, dtype=np.uint16).reshape(2, 32, 32)
    tiles = [Tile(picture[c], 100 * scene, 0, c=c, scene=scene) for scene in (0, 1) for c in (0, 1)]
    for name, scenes in (("named", ["left", "right"]), ("alike", ["TR", "TR"]), ("numbered", ["1", "2"])):
        folder = tmp_path / name
        folder.mkdir()
        write_czi(folder / "x.czi", tiles, czi_xml(["DAPI", "CD8"], scenes=scenes))
        init_study(folder)
        rows = [(row["slide"], row["patient"], row["scene"]) for row in rows_of(folder / "slides.csv")]
        words = ["0", "1"] if name == "alike" else scenes
        assert rows == [("x_s1", "x", words[0]), ("x_s2", "x", words[1])]
        assert errors_of(folder, open_slides=True) == []


def test_an_annotation_file_that_no_slide_uses_is_named(tmp_path):
    folder = write_study(tmp_path / "study")
    (folder / "annotations").mkdir()
    for name in ("S1.geojson", "nests.geojson"):
        (folder / "annotations" / name).write_text("{}")
    warned = [problem for problem in check_study(folder, open_slides=False) if problem.severity == "warning"]
    assert [problem.place for problem in warned if "annotations/" in problem.place] == ["annotations/nests.geojson"]
