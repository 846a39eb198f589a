"""X1, X9: XML and bytes made to harm cost one message, and never the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from limited import outcomes
from slide_fixtures import (
    TiffLayout,
    Tile,
    coded_image,
    czi_xml,
    ome_document,
    ome_xml,
    qpi_xml,
    write_bioformats2raw,
    write_czi,
    write_ome_tiff,
    write_pages,
    write_qptiff,
)

IMAGE = coded_image(1, 32, 32)
SECRET = "mihc-canary-7f3a"

# Each takes a sound document and the URL of a file that must not be read.
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
PAYLOADS = {
    "internal entity": lambda xml, url: doctype(xml, '<!ENTITY a "b">', "&a;"),
    "external entity": lambda xml, url: doctype(xml, f'<!ENTITY a SYSTEM "{url}">', "&a;"),
    "public entity": lambda xml, url: doctype(xml, f'<!ENTITY a PUBLIC "x" "{url}">', "&a;"),
    "parameter entity": lambda xml, url: doctype(xml, f'<!ENTITY % a SYSTEM "{url}"> %a;', ""),
    "external DTD": lambda xml, url: xml.replace("?>", f'?><!DOCTYPE a SYSTEM "{url}">', 1),
    "public DTD": lambda xml, url: xml.replace("?>", f'?><!DOCTYPE a PUBLIC "-//x" "{url}">', 1),
    "empty DTD": lambda xml, url: doctype(xml, "", ""),
    "lower case": lambda xml, url: xml.replace("?>", '?><!doctype a [<!ENTITY a "b">]>', 1),
    "billion laughs": lambda xml, url: doctype(xml, '<!ENTITY l0 "ha">' + LAUGHS, "&l9;"),
    "quadratic": lambda xml, url: doctype(xml, f'<!ENTITY a "{"b" * 100_000}">', "&a;" * 10_000),
    "recursive entity": lambda xml, url: doctype(xml, '<!ENTITY a "&b;"><!ENTITY b "&a;">', "&a;"),
    "unparsed entity": lambda xml, url: doctype(xml, f'<!NOTATION n SYSTEM "{url}"><!ENTITY a SYSTEM "x" NDATA n>', ""),
    "default attribute": lambda xml, url: doctype(xml, '<!ATTLIST Pixels PhysicalSizeX CDATA "1">', ""),
    "undefined entity": lambda xml, url: inside(xml, "&nobody;"),
    "XInclude": lambda xml, url: inside(
        xml, f'<x:include xmlns:x="http://www.w3.org/2001/XInclude" parse="text" href="{url}"/>'
    ),
    "style sheet": lambda xml, url: xml.replace("?>", f'?><?xml-stylesheet type="text/xsl" href="{url}"?>', 1),
    "schema": lambda xml, url: inside(
        xml, f'<a xmlns:s="http://www.w3.org/2001/XMLSchema-instance" s:schemaLocation="a {url}"/>'
    ),
    "a million deep": lambda xml, url: inside(xml, "<a>" * 400_000 + "</a>" * 400_000),
    "a hundred thousand attributes": lambda xml, url: inside(
        xml, "<a " + " ".join(f'b{n}="c"' for n in range(100_000)) + "/>"
    ),
    "one long name": lambda xml, url: inside(xml, f"<{'a' * 5_000_000}/>"),
    "control characters": lambda xml, url: inside(xml, "&#1;\x01"),
    "cut off": lambda xml, url: xml[: len(xml) // 2],
    "another encoding": lambda xml, url: doctype(xml, '<!ENTITY a "b">', "&a;").replace("UTF-8", "UTF-7"),
}  # fmt: skip
HARMLESS = {"XInclude", "style sheet", "schema", "a hundred thousand attributes", "one long name", "a million deep"}


def doctype(xml: str, declared: str, used: str) -> str:
    return inside(xml, used).replace("?>", f"?><!DOCTYPE a [{declared}]>", 1)


def inside(xml: str, text: str) -> str:
    """Text put at the end of the root element, where every reader passes."""
    at = xml.rindex("</")
    return xml[:at] + text + xml[at:]


HEAD = '<?xml version="1.0" encoding="UTF-8"?>'


def in_ome_tiff(path: Path, payload: object, url: str) -> Path:
    document = payload(ome_document(ome_xml(IMAGE)).decode(), url)
    return write_pages(path / "s.ome.tif", IMAGE, description=document.encode())


def in_qptiff(path: Path, payload: object, url: str) -> Path:
    return write_pages(
        path / "s.qptiff", IMAGE, description=payload(qpi_xml("FullResolution", "DAPI").decode(), url).encode()
    )


def in_czi(path: Path, payload: object, url: str) -> Path:
    return write_czi(path / "s.czi", [Tile(IMAGE[0], 0, 0)], payload(HEAD + czi_xml(["DAPI"]), url))


def in_bioformats2raw(path: Path, payload: object, url: str) -> Path:
    written = write_bioformats2raw(path / "s.zarr", [IMAGE], ["a"])
    text = payload(ome_document(ome_xml(IMAGE)).decode(), url)
    (written / "OME" / "METADATA.ome.xml").write_bytes(text.encode())
    return written


READERS = {"ome": in_ome_tiff, "qptiff": in_qptiff, "czi": in_czi, "zarr": in_bioformats2raw}


@pytest.mark.parametrize("reader", READERS)
def test_X1_hostile_xml_is_refused_or_read_without_obeying_it(tmp_path: Path, reader: str):
    canary = tmp_path / "canary.txt"
    canary.write_text(SECRET)
    paths = []
    for number, (name, payload) in enumerate(PAYLOADS.items()):
        folder = tmp_path / f"{number} {name}"
        folder.mkdir()
        made = READERS[reader](folder, payload, canary.as_uri())
        paths.append(made.rename(tmp_path / f"{name}{made.suffix}"))
    assert len(paths) >= 20
    found = outcomes(paths)
    words = {Path(name).stem: word for name, (word, _, _) in found.items()}
    assert {name for name, word in words.items() if word == "read"} <= HARMLESS
    sums = {said for word, said, _ in found.values() if word == "read"}
    assert sums <= {int(IMAGE.sum())} and sums
    assert not any(SECRET in str(said) for _, said, _ in found.values())
    assert max(peak for _, _, peak in found.values()) < 1000


def flipped(data: bytes, seed: int) -> bytes:
    """One to four bits changed somewhere."""
    rng = np.random.default_rng(seed)
    changed = bytearray(data)
    for at in rng.integers(0, len(data), rng.integers(1, 5)):
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def small_files(folder: Path) -> dict[str, Path]:
    """One file of each format whose bytes can be changed."""
    image = coded_image(2, 64, 64)
    tiles = [
        Tile(plane[y : y + 32, x : x + 32].copy(), x, y, c=c, m=m, compression="jpegxr")
        for c, plane in enumerate(image)
        for m, (y, x) in enumerate([(0, 0), (0, 32), (32, 0), (32, 32)])
    ]
    layout = TiffLayout(tile=(32, 32), compression="jpeg2000")
    return {
        "ome.tif": write_ome_tiff(folder / "base.ome.tif", image, layout=layout, levels=1),
        "tif": write_pages(folder / "base.tif", image, layout=TiffLayout(tile=(32, 32), compression="lzw")),
        "qptiff": write_qptiff(folder / "base.qptiff", image, ["DAPI", "CD8"]),
        "czi": write_czi(folder / "base.czi", tiles, czi_xml(["DAPI", "AF488"])),
        "zstd.czi": write_czi(folder / "base1.czi", [Tile(image[0], 0, 0, compression="zstd1")], czi_xml(["DAPI"])),
    }


KINDS = ["ome.tif", "tif", "qptiff", "czi", "zstd.czi"]


def none_ends_the_process(folder: Path, kind: str, count: int) -> None:
    """Bits are changed anywhere in the file: headers, directories, and what the codecs of C decode."""
    data = small_files(folder)[kind].read_bytes()
    paths = []
    for seed in range(count):
        path = folder / f"{seed}.{kind}"
        path.write_bytes(flipped(data, seed))
        paths.append(path)
    found = outcomes(paths, seconds=20 * 60)
    assert len(found) == count and {word for word, _, _ in found.values()} <= {"read", "refused"}
    assert max(peak for _, _, peak in found.values()) < 1000


@pytest.mark.parametrize("kind", KINDS)
def test_X9_changed_bits_never_end_the_process(tmp_path: Path, kind: str):
    none_ends_the_process(tmp_path, kind, 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_X9_a_thousand_changes_of_each_format_never_end_the_process(tmp_path: Path, kind: str):
    none_ends_the_process(tmp_path, kind, 1000)
