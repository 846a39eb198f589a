"""Small files that ask for much: refused before the memory is there, each at the cost of one message."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from limited import outcomes
from slide_fixtures import (
    TiffLayout,
    Tile,
    coded_image,
    czi_xml,
    ome_document,
    ome_xml,
    write_czi,
    write_ome_zarr,
    write_pages,
)

from mihc.slide import open_slide

ONE = coded_image(1, 64, 64, np.uint8)
ZEROS = bytes(400 << 20)


def bare_tiff(path: Path, changed: dict[int, int], data: bytes = b"", *, pages: int = 1) -> Path:
    """A TIFF of 64 x 64 px in one tile, written tag by tag; `changed` replaces values of tags."""
    values = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 64, 279: max(len(data), 1)}
    if 322 in changed:
        values |= {324: 8, 325: values[279]}
        del values[273], values[278], values[279]
    values |= changed
    body = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    for page in range(pages):
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(values.items()))
        size = 2 + len(entries) + 4
        following = len(body) + size if page < pages - 1 else 0
        body += struct.pack("<H", len(values)) + entries + struct.pack("<I", following)
    path.write_bytes(body + bytes(64))
    return path


def tiff_bombs(folder: Path) -> list[Path]:
    tile = {322: 64, 323: 64}
    jpeg = bytearray(imagecodecs.jpeg_encode(ONE[0]))
    frame = jpeg.index(b"\xff\xc0")
    struct.pack_into(">HH", jpeg, frame + 5, 65500, 65500)
    jp2 = bytearray(imagecodecs.jpeg2k_encode(ONE[0], codecformat="j2k"))
    struct.pack_into(">II", jp2, jp2.index(b"\xff\x4f\xff\x51") + 8, 1 << 20, 1 << 20)
    deflated, zstd = imagecodecs.zlib_encode(ZEROS), imagecodecs.zstd_encode(ZEROS)
    return [
        bare_tiff(folder / "plane.tif", {256: 1 << 20, 257: 1 << 20}),
        bare_tiff(folder / "area.tif", {256: 1_000_000, 257: 1_000_000}),
        bare_tiff(folder / "tile.tif", {322: 1 << 14, 323: 1 << 14}, b"x"),
        bare_tiff(folder / "tile of a pixel.tif", {256: 1, 257: 1, 322: 1 << 30, 323: 1 << 30}, b"x"),
        bare_tiff(folder / "samples.tif", {277: 60_000, 284: 2}),
        bare_tiff(folder / "strip.tif", {256: 900_000, 257: 90_000, 278: 90_000, 259: 8}, b"x"),
        bare_tiff(folder / "pages.tif", {}, pages=20_001),
        bare_tiff(folder / "jpeg.tif", {**tile, 259: 7}, bytes(jpeg)),
        bare_tiff(folder / "jpeg2000.tif", {**tile, 259: 34712}, bytes(jp2)),
        bare_tiff(folder / "deflate.tif", {**tile, 259: 8}, deflated),
        bare_tiff(folder / "zstd.tif", {**tile, 259: 50000}, zstd),
        many_levels(folder / "levels.tif"),
        write_pages(folder / "text.ome.tif", ONE, description=ome_document(ome_xml(ONE), " " * (33 << 20))),
        write_pages(folder / "elements.ome.tif", ONE, description=ome_document(ome_xml(ONE), "<a/>" * 1_100_000)),
    ]


def many_levels(path: Path) -> Path:
    """A page with 3,000 SubIFDs that are all the page itself."""
    write_pages(path, ONE)
    with tifffile.TiffFile(path) as tif:
        at, tags = tif.pages[0].offset, len(tif.pages[0].tags)
    data = bytearray(path.read_bytes())
    data += struct.pack("<3000I", *[at] * 3000)
    entry = struct.pack("<HHII", 330, 13, 3000, len(data) - 12000)
    entries = data[at + 2 : at + 2 + 12 * tags] + entry
    by_tag = sorted(entries[k : k + 12] for k in range(0, len(entries), 12))
    by_tag.sort(key=lambda each: struct.unpack("<H", each[:2]))
    start = len(data)
    data += struct.pack("<H", tags + 1) + b"".join(by_tag) + bytes(4)
    struct.pack_into("<I", data, 4, start)
    path.write_bytes(data)
    return path


def czi_bombs(folder: Path) -> list[Path]:
    xml = czi_xml(["DAPI"])
    small = Tile(coded_image(1, 32, 32)[0], 0, 0)
    wide = write_czi(folder / "wide.czi", [small], xml)
    for dimension in (b"X\0\0\0", b"Y\0\0\0"):
        row = dimension + struct.pack("<iifi", 0, 32, 0.0, 32)
        wide.write_bytes(wide.read_bytes().replace(row, dimension + struct.pack("<iifi", 0, 900_000, 0.0, 900_000)))
    listed = write_czi(folder / "listed.czi", [small], xml)
    data = bytearray(listed.read_bytes())
    struct.pack_into("<i", data, data.index(b"ZISRAWDIRECTORY") + 32, 2_000_000_000)
    listed.write_bytes(data)
    jxr = bytearray(imagecodecs.jpegxr_encode(small.pixels))
    at = jxr.index(b"WMPHOTO\0") + 8
    short = bool(jxr[at + 2] & 0x80)
    struct.pack_into(">HH" if short else ">II", jxr, at + 4, *([65_000] * 2))
    return [
        wide,
        listed,
        write_czi(folder / "text.czi", [small], xml.replace("</Metadata>", " " * (33 << 20) + "</Metadata>")),
        write_czi(folder / "elements.czi", [small], xml.replace("</Metadata>", "<a/>" * 1_100_000 + "</Metadata>")),
        write_czi(folder / "zstd.czi", [Tile(small.pixels, 0, 0, compression="zstd0", data=_zstd())], xml),
        write_czi(folder / "jpegxr.czi", [Tile(small.pixels, 0, 0, compression="jpegxr", data=bytes(jxr))], xml),
    ]


def _zstd() -> bytes:
    return imagecodecs.zstd_encode(ZEROS)


def zarr_bombs(folder: Path) -> list[Path]:
    def edited(name: str, edit: object) -> Path:
        path = write_ome_zarr(folder / name, coded_image(1, 32, 32), levels=1)
        document = json.loads((path / "0" / "zarr.json").read_text())
        edit(document)
        (path / "0" / "zarr.json").write_text(json.dumps(document))
        return path

    def grid(document: dict, side: int) -> None:
        document["chunk_grid"]["configuration"]["chunk_shape"] = [1, side, side]

    plane = edited("plane.zarr", lambda document: document.update(shape=[1, 1 << 21, 1 << 21]))
    chunk = edited("chunk.zarr", lambda document: (document.update(shape=[1, 90_000, 90_000]), grid(document, 90_000)))
    chunks = edited("chunks.zarr", lambda document: (document.update(shape=[1, 90_000, 90_000]), grid(document, 1)))
    bomb = write_ome_zarr(folder / "zstd.zarr", coded_image(1, 32, 32), levels=1)
    (bomb / "0" / "c" / "0" / "0" / "0").write_bytes(_zstd())
    text = write_ome_zarr(folder / "text.zarr", coded_image(1, 32, 32), levels=1)
    (text / "zarr.json").write_text('{"a":"' + "b" * (33 << 20) + '"}')
    deep = write_ome_zarr(folder / "deep.zarr", coded_image(1, 32, 32), levels=1)
    (deep / "zarr.json").write_text('{"attributes":' + "[" * 1_000_000 + "]" * 1_000_000 + "}")
    return [plane, chunk, chunks, bomb, text, deep]


def test_X2_bombs_of_every_format_are_refused_under_a_memory_limit(tmp_path: Path):
    paths = [*tiff_bombs(tmp_path), *czi_bombs(tmp_path), *zarr_bombs(tmp_path)]
    assert len(paths) >= 20 and all(path.is_dir() or path.stat().st_size < 40 << 20 for path in paths)
    found = outcomes(paths)
    assert {name: word for name, (word, _, _) in found.items() if word != "refused"} == {}
    assert max(peak for _, _, peak in found.values()) < 1000
    by_size = ("plane.tif", "area.tif", "tile.tif", "tile of a pixel.tif", "samples.tif", "strip.tif", "pages.tif")
    for name in (*by_size, "levels.tif", "text.ome.tif", "elements.czi", "plane.zarr", "chunk.zarr", "text.zarr"):
        assert "exceed" in found[name][1], found[name]


def test_SL9_a_blank_slide_in_17_kb_is_read(tmp_path: Path):
    """16384 x 16384 px of zeros compress 30,000 to 1: a limit on the ratio would refuse a slide that is right."""
    path = tmp_path / "blank.ome.tif"
    blank = np.zeros((1, 16384, 16384), np.uint16)
    layout = TiffLayout(rowsperstrip=16384, compression="zstd")
    write_pages(path, blank, description=ome_document(ome_xml(blank)), layout=layout)
    assert path.stat().st_size < 30_000
    with open_slide(path) as slide:
        assert slide.image.shape == (1, 16384, 16384)
        assert not slide.image[0, 5000:6000, 5000:7000].any()
