"""N11: planes, tiles, strips, subblocks and chunks are counted against the metadata before a pixel is used.

Each mutant is a sound file with one thing missing, doubled or contradicted. The sound files are read first, so that a
refusal is the mutant's.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slide_fixtures import (
    TiffLayout,
    Tile,
    coded_image,
    czi_xml,
    halved,
    ome_xml,
    qpi_xml,
    write_bioformats2raw,
    write_czi,
    write_ome_tiff,
    write_ome_zarr,
    write_pages,
    write_qptiff,
)

from mihc.errors import SlideError
from mihc.slide import open_slide, read_contents

IMAGE = coded_image(3, 64, 96)
TILES = TiffLayout(tile=(32, 32), compression="zlib")
Mutant = Callable[[Path], Path]

# ---------------------------------------------------------------------------------------------------------------- TIFF


def ome(layout: TiffLayout = TILES, **words: object) -> Mutant:
    """An OME-TIFF whose XML says these words of three planes of 96 x 64 px."""
    return lambda folder: write_ome_tiff(folder / "s.ome.tif", IMAGE, layout=layout, xml=ome_xml(IMAGE, **words))


def places(*pages: tuple[int, int]) -> str:
    return "".join(f'<TiffData FirstC="{c}" IFD="{page}" PlaneCount="1"/>' for c, page in pages)


def poked(tag: str, page: int, index: int, change: Callable[[int], int], layout: TiffLayout = TILES) -> Mutant:
    """One number of one tag changed in the file."""

    def mutant(folder: Path) -> Path:
        path = ome(layout)(folder)
        with tifffile.TiffFile(path) as tif:
            found = tif.pages[page].tags[tag]
            kind = {3: "<H", 4: "<I"}[int(found.dtype)]
            at = found.valueoffset + index * struct.calcsize(kind)
        data = bytearray(path.read_bytes())
        struct.pack_into(kind, data, at, change(struct.unpack_from(kind, data, at)[0]))
        path.write_bytes(data)
        return path

    return mutant


def chained(page: int, onwards: Callable[[list[int]], int]) -> Mutant:
    """The pointer from one page to the next changed; `onwards` has the offsets of all pages."""

    def mutant(folder: Path) -> Path:
        path = ome()(folder)
        with tifffile.TiffFile(path) as tif:
            offsets = [each.offset for each in tif.pages]
            at = offsets[page] + 2 + 12 * len(tif.pages[page].tags)
        data = bytearray(path.read_bytes())
        struct.pack_into("<I", data, at, onwards(offsets))
        path.write_bytes(data)
        return path

    return mutant


def moved(by: int) -> Mutant:
    """The second tile of page 0 points at the first one's bytes, or into them."""

    def mutant(folder: Path) -> Path:
        path = ome()(folder)
        with tifffile.TiffFile(path) as tif:
            offsets, counts = tif.pages[0].tags["TileOffsets"], tif.pages[0].tags["TileByteCounts"]
            first, length = offsets.value[0], counts.value[0]
            at, where = offsets.valueoffset + 4, counts.valueoffset + struct.calcsize("HI"[counts.dtype == 4])
        data = bytearray(path.read_bytes())
        struct.pack_into("<I", data, at, first + by)
        struct.pack_into("<I" if counts.dtype == 4 else "<H", data, where, length)
        path.write_bytes(data)
        return path

    return mutant


def fewer_entries(folder: Path) -> Path:
    """The table of tiles says that it has one entry less."""
    path = ome()(folder)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[2].tags["TileOffsets"].offset + 4
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, at, 5)
    path.write_bytes(data)
    return path


STRIPS = TiffLayout(rowsperstrip=16)
OME_MUTANTS = {
    "more channels": (ome(size_c=5), "5 channels declared, 3 present"),
    "fewer channels": (ome(size_c=2), "2 planes declared, 3 pages of that size present"),
    "more focal planes": (ome(size_z=2), "planes declared, 3 present"),
    "more time points": (ome(size_t=2), "planes declared, 3 present"),
    "another type": (lambda f: write_ome_tiff(f / "s.ome.tif", IMAGE, xml=ome_xml(IMAGE.astype("u1"))), "uint8"),
    "wider": (lambda f: write_ome_tiff(f / "s.ome.tif", IMAGE, xml=ome_xml(IMAGE[..., 1:])), "95 x 64 px, page 0"),
    "lower": (lambda f: write_ome_tiff(f / "s.ome.tif", IMAGE, xml=ome_xml(IMAGE[:, 1:])), "96 x 63 px, page 0"),
    "no TiffData": (ome(tiff_data=""), "3 channels declared, 0 present"),
    "pages from the second on": (ome(tiff_data='<TiffData IFD="1" PlaneCount="3"/>'), "3 channels declared, 2 present"),
    "one page, two channels": (ome(tiff_data=places((0, 0), (1, 1), (2, 1))), "puts several planes on page 1"),
    "one plane, two pages": (ome(tiff_data=places((0, 0), (1, 1), (1, 2))), "3 channels declared, 2 present"),
    "a plane doubled": (ome(tiff_data=places((0, 0), (1, 1), (2, 2), (1, 0))), "puts 1 planes on two pages"),
    "a plane in another file": (
        ome(
            tiff_data=places((0, 0), (1, 1))
            + '<TiffData FirstC="2" IFD="0"><UUID FileName="b.tif">urn:uuid:b</UUID></TiffData>'
        ),
        "1 planes lie in other files",
    ),
    "the last page cut off": (chained(1, lambda at: 0), "3 channels declared, 2 present"),
    "a page skipped": (chained(0, lambda at: at[2]), "3 channels declared, 2 present"),
    "a circular chain": (chained(2, lambda at: at[0]), "circular"),
    "a chain out of the file": (chained(2, lambda at: 10_000_000), "truncated: page 3 offset 10000000"),
    "a tile at 0": (poked("TileOffsets", 1, 4, lambda at: 0), r"missing tile \(1, 1\) of page 1 \(channel 1\)"),
    "a tile of 0 bytes": (poked("TileByteCounts", 2, 0, lambda at: 0), r"missing tile \(0, 0\) of page 2"),
    "a tile out of the file": (poked("TileOffsets", 0, 3, lambda at: 9_999_999), "truncated: page 0 offset 9999999"),
    "a tile used twice": (moved(0), "stands for several places of the picture"),
    "a tile within another": (moved(1), "tile 0 of page 0 and tile 1 of page 0 overlap"),
    "a short table": (fewer_entries, r"page 2 \(channel 2\) lists 5 tiles, 6 are needed"),
    "a short strip": (poked("StripByteCounts", 1, 2, lambda n: n // 2, STRIPS), r"truncated: strip \(0, 2\) of page 1"),
    "a lower page": (poked("ImageLength", 1, 0, lambda n: 48), "declares 96 x 64 px, page 1 has 96 x 48 px"),
}


def imagej(images: int, pages: int) -> Mutant:
    def mutant(folder: Path) -> Path:
        text = f"ImageJ=1.53\nimages={images}\nchannels={images}\nunit=micron\n"
        layout = TiffLayout(resolution=(2, 2))
        return write_pages(folder / "s.tif", IMAGE[:pages], description=text, layout=layout)

    return mutant


def one_page_of_all(folder: Path) -> Path:
    tifffile.imwrite(folder / "s.tif", IMAGE, photometric="minisblack", truncate=True)
    return folder / "s.tif"


def qptiff(*kinds: str, small: int = 3, sizes: tuple[int, ...] = (64, 64, 64), types: str = "HHH") -> Mutant:
    """Full-resolution pages of these kinds, then a pyramid level of `small` pages."""

    def mutant(folder: Path) -> Path:
        with tifffile.TiffWriter(folder / "s.qptiff", ome=False) as tif:
            common = {"metadata": None, "software": "PerkinElmer-QPI", "photometric": "minisblack"}
            for plane, kind, height, dtype in zip(IMAGE, kinds, sizes, types):
                text = qpi_xml(kind, "CD8") if kind else None
                tif.write(plane[:height].astype(dtype), description=text, **common)
            for plane in halved(IMAGE)[:small]:
                tif.write(plane, description=qpi_xml("ReducedResolution", "CD8"), **common)
        return folder / "s.qptiff"

    return mutant


FULL = "FullResolution"
OTHER_TIFF_MUTANTS = {
    "ImageJ: more planes": (imagej(4, 3), "no page for channel 3|declares 4 planes"),
    "ImageJ: fewer planes": (imagej(2, 3), "declares 2 planes, 3 pages are present"),
    "one page stands for all": (one_page_of_all, "declares 3 planes, 1 pages are present"),
    "QPTIFF: a channel less": (qptiff(FULL, FULL), "3 channels in the pyramid level of 48 x 32 px, 2 present"),
    "QPTIFF: a page of a level less": (qptiff(FULL, FULL, FULL, small=2), "2 channels in the pyramid level"),
    "QPTIFF: a silent page": (qptiff(FULL, "", FULL, small=0), "page 1 has the size of a channel and does not say"),
    "QPTIFF: another size": (qptiff(FULL, FULL, FULL, sizes=(64, 63, 64)), "pages 0 and 1 differ in size"),
    "QPTIFF: another type": (qptiff(FULL, FULL, FULL, types="HHB"), "page 2 has uint8 pixels, page 0 uint16"),
    "QPTIFF: no channel": (qptiff("Thumbnail", "Label"), "without a full-resolution page"),
}

# ----------------------------------------------------------------------------------------------------------------- CZI

NAMES = ["DAPI", "AF488"]


def subblocks(compression: str = "raw", **kind: object) -> list[Tile]:
    """Two channels of a mosaic of 3 x 2 tiles."""
    corners = [(y, x) for y in (0, 32) for x in (0, 32, 64)]
    return [
        Tile(IMAGE[c, y : y + 32, x : x + 32].copy(), x, y, c=c, m=m, compression=compression, **kind)
        for c in (0, 1)
        for m, (y, x) in enumerate(corners)
    ]


def czi(tiles: list[Tile] | None = None, edit: Callable[[bytes], bytes] | None = None, **sizes: int) -> Mutant:
    """A CZI of these subblocks whose XML declares these sizes; `edit` changes its bytes."""

    def mutant(folder: Path) -> Path:
        said = "".join(f"<Size{dimension}>{size}</Size{dimension}>" for dimension, size in sizes.items())
        xml = czi_xml(NAMES).replace("<SizeC>2</SizeC>", "" if "C" in sizes else "<SizeC>2</SizeC>")
        xml = xml.replace("<Image>", f"<Image>{said}")
        path = write_czi(folder / "s.czi", subblocks() if tiles is None else tiles, xml)
        if edit is not None:
            path.write_bytes(edit(path.read_bytes()))
        return path

    return mutant


def listing(by: int) -> Callable[[bytes], bytes]:
    """The directory counts more or fewer subblocks than it lists."""

    def edit(data: bytes) -> bytes:
        at = data.index(b"ZISRAWDIRECTORY") + 32
        return data[:at] + struct.pack("<i", struct.unpack_from("<i", data, at)[0] + by) + data[at + 4 :]

    return edit


def short(compression: str) -> list[Tile]:
    """The last subblock holds the pixels of fewer rows."""
    from slide_fixtures import encoded

    tiles = subblocks(compression)
    less = encoded(Tile(tiles[-1].pixels[:20].copy(), 0, 0, compression=compression))
    return [*tiles[:-1], Tile(tiles[-1].pixels, 64, 32, c=1, m=5, compression=compression, data=less)]


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(old, new, 1)


CZI_MUTANTS = {
    "more channels": (czi(C=3), "3 channels declared, 2 present"),
    "fewer channels": (czi(C=1), "1 channels declared, 2 present"),
    "more focal planes": (czi(Z=2), "2 focal planes declared, 1 present"),
    "more time points": (czi(T=4), "4 time points declared, 1 present"),
    "more scenes": (czi(S=3), "3 scenes declared, 1 present"),
    "a tile of one channel less": (czi(subblocks()[:-1]), "channel 1 has 5 of 6 mosaic tiles"),
    "a tile of one focal plane less": (
        czi([*subblocks(z=0), *subblocks(z=1)[:-1]]),
        "channel 1, focal plane 1, has 5 of 6 mosaic tiles",
    ),
    "a focal plane of one channel less": (
        czi([*subblocks(z=0), *subblocks(z=1)[:6]]),
        "4 planes expected.*, 3 present",
    ),
    "a subblock twice": (czi([*subblocks(), subblocks()[4]]), "1 subblocks are there 2 times"),
    "a directory that lists more": (czi(edit=listing(-1)), "counts 11 subblocks and lists more"),
    "a directory that lists fewer": (czi(edit=listing(1)), "ends before subblock 12|no valid directory entry"),
    "no subblock at its place": (czi(edit=replaced(b"ZISRAWSUBBLOCK", b"ZISRAWDELETEDX")), "subblock 0 is not what"),
    "raw pixels short": (czi(short("raw")), "subblock 11 holds 1280 bytes of pixels, 2048 are needed"),
    "zstd0 pixels short": (czi(short("zstd0")), "subblock 11 holds 1280 bytes of pixels, 2048 are needed"),
    "zstd1 pixels short": (czi(short("zstd1")), "subblock 11 holds 1280 bytes of pixels, 2048 are needed"),
    "JPEG XR pixels short": (czi(short("jpegxr")), "subblock 11 holds 1280 bytes of pixels, 2048 are needed"),
}

# ------------------------------------------------------------------------------------------------------------ OME-Zarr


def zarr(edit: Callable[[Path], None], *, shards: bool = False, version: str = "0.5") -> Mutant:
    def mutant(folder: Path) -> Path:
        path = write_ome_zarr(folder / "s.ome.zarr", IMAGE, shards=shards, version=version)
        edit(path)
        return path

    return mutant


def lose_a_chunk_of_a_shard(path: Path) -> None:
    """The index of a shard, at its end, lists one chunk less."""
    import google_crc32c

    shard = path / "0" / "c" / "2" / "0" / "1"
    data = bytearray(shard.read_bytes())
    entries = 4 * 16
    start = len(data) - entries - 4
    data[start + 32 : start + 48] = b"\xff" * 16
    data[-4:] = struct.pack("<I", google_crc32c.value(bytes(data[start:-4])))
    shard.write_bytes(data)


def declare(**changed: object) -> Callable[[Path], None]:
    """The array's own metadata changed."""

    def edit(path: Path) -> None:
        file = path / "0" / "zarr.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return edit


def lose_a_series(folder: Path) -> Path:
    path = write_bioformats2raw(folder / "s.zarr", [IMAGE, IMAGE], ["core A", "core B"])
    shutil.rmtree(path / "1")
    return path


ZARR_MUTANTS = {
    "a chunk less": (zarr(lambda path: (path / "0/c/1/1/2").unlink()), "missing chunk c/1/1/2: 1 of 18"),
    "a chunk less, 0.4": (
        zarr(lambda path: (path / "0/1/1/2").unlink(), version="0.4"),
        "missing chunk 1/1/2: 1 of 18",
    ),
    "an empty chunk": (zarr(lambda path: (path / "0/c/0/0/0").write_bytes(b"")), "missing chunk c/0/0/0"),
    "a channel's chunks less": (zarr(lambda path: shutil.rmtree(path / "0/c/2")), "missing chunk c/2/0/0: 6 of 18"),
    "a shard less": (zarr(lambda path: (path / "0/c/1/0/1").unlink(), shards=True), "missing chunk c/1/0/1"),
    "a chunk of a shard less": (zarr(lose_a_chunk_of_a_shard, shards=True), "missing chunk in shard c/2/0/1: 1"),
    "a taller array": (zarr(declare(shape=[3, 70, 96])), "missing chunk c/0/2/0"),
    "more channels": (zarr(declare(shape=[4, 64, 96])), "omero.channels lists 3 channels, the array has 4"),
    "no array": (zarr(lambda path: shutil.rmtree(path / "0")), "dataset “0” cannot be opened"),
    "a level less": (zarr(lambda path: shutil.rmtree(path / "1")), "dataset “1” cannot be opened"),
    "a series less": (lose_a_series, "2 images declared in OME/METADATA.ome.xml, 1 present"),
}

MUTANTS = {
    f"{kind}: {name}": mutant
    for kind, mutants in (
        ("OME-TIFF", OME_MUTANTS),
        ("TIFF", OTHER_TIFF_MUTANTS),
        ("CZI", CZI_MUTANTS),
        ("OME-Zarr", ZARR_MUTANTS),
    )
    for name, mutant in mutants.items()
}
SOUND = {
    "OME-TIFF": ome(),
    "OME-TIFF of strips": ome(STRIPS),
    "ImageJ": imagej(3, 3),
    "QPTIFF": qptiff(FULL, FULL, FULL),
    "QPTIFF as written": lambda folder: write_qptiff(folder / "t.qptiff", IMAGE, ["a", "b", "c"]),
    **{f"CZI, {kind}": czi(subblocks(kind), C=2, Z=1, T=1, S=1, X=96, Y=64, M=6) for kind in ("raw", "jpegxr")},
    **{f"CZI, {kind}": czi(subblocks(kind)) for kind in ("zstd0", "zstd1")},
    "CZI of focal planes": czi([*subblocks(z=0), *subblocks(z=1)], Z=2),
    "OME-Zarr": zarr(lambda path: None),
    "OME-Zarr 0.4": zarr(lambda path: None, version="0.4"),
    "OME-Zarr in shards": zarr(lambda path: None, shards=True),
}


def test_N11_there_are_at_least_48_mutants():
    assert len(MUTANTS) >= 48


@pytest.mark.parametrize("sound", SOUND.values(), ids=SOUND)
def test_N11_a_sound_file_is_read(tmp_path: Path, sound: Mutant):
    path = sound(tmp_path)
    several = read_contents(path).scenes[0].z_planes > 1
    with open_slide(path, pixel_size_um=0.5, z=0 if several else None) as slide:
        assert slide.warnings == ()
        np.testing.assert_array_equal(slide.image[:], IMAGE[: slide.image.shape[0]])


@pytest.mark.parametrize(("mutant", "said"), MUTANTS.values(), ids=MUTANTS)
def test_N11_what_is_missing_doubled_or_contradicted_is_refused(tmp_path: Path, mutant: Mutant, said: str):
    with pytest.raises(SlideError, match=said):
        open_slide(mutant(tmp_path), pixel_size_um=0.5)


def test_N11_a_blank_tile_may_be_stored_once_and_used_again(tmp_path: Path):
    """Some writers do that; the value is right wherever the tile stands."""
    blank = np.zeros_like(IMAGE)
    path = write_ome_tiff(tmp_path / "s.ome.tif", blank, layout=TILES)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        shared = tif.pages[0].dataoffsets[0]
        tables = [page.tags["TileOffsets"].valueoffset for page in tif.pages]
    for at in tables:
        struct.pack_into("<6I", data, at, *[shared] * 6)
    path.write_bytes(data)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.image[:], blank)


UNSCANNED = {
    "a mosaic tile that no channel has": (
        czi([tile for tile in subblocks() if tile.m != 2]),
        "mosaic tiles 2 are missing in every channel: that part counts as not scanned",
    ),
    "fewer tiles than declared": (
        czi([tile for tile in subblocks() if tile.m != 5], M=6),
        "6 mosaic tiles declared, 5 present: the rest counts as not scanned",
    ),
    "a smaller canvas than declared": (
        czi([tile for tile in subblocks() if tile.x < 64], X=96, Y=64),
        "96 x 64 px declared, its tiles fill 64 x 64 px: the rest counts as not scanned",
    ),
}


@pytest.mark.parametrize(("mutant", "said"), UNSCANNED.values(), ids=UNSCANNED)
def test_N11_what_no_channel_of_a_mosaic_has_is_told_and_is_no_scanned_area(tmp_path: Path, mutant: Mutant, said: str):
    with open_slide(mutant(tmp_path)) as slide:
        assert said in slide.warnings
        height, width = slide.image.shape[1:]
        assert slide.scanned_px.area < 96 * 64 and slide.scanned_px.bounds == (0, 0, width, height)
