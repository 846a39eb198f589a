"""The two small slides of sample_slides/, with their truth."""

from __future__ import annotations

from pathlib import Path

from mihc.drawing.files import write_ome_tiff, write_qptiff, write_qupath
from mihc.drawing.slide import DrawnSlide, draw_slide
from mihc.drawing.tissue import Layout

SIZE_PX = (448, 512)

README = """\
# Two sample slides with known truth

Drawn by `python -m mihc.synthetic sample_slides`; the same command draws the same pixels and the same truth. No
patient's tissue is in them. 0.5 µm per pixel, 8 channels (DAPI, PanCK, CD3, CD8, CD20, CD21, Ki67, AF), 16 bit.

| file | format | what it shows |
|---|---|---|
| `nests.ome.tif` | OME-TIFF, tiled, zlib, pyramid in SubIFDs | tumour nests in stroma beside blank glass |
| `aggregate.qptiff` | as Akoya's QPTIFF: LZW, an RGB thumbnail among the pages | a lymphoid aggregate in stroma |

    mihc inspect sample_slides/nests.ome.tif

Truth, in `truth/`: `<slide>.nuclei.tif` every nucleus as uint32 labels; `<slide>.cells.csv` its centroid in µm (x to
the right, y down, 0 at the top-left corner of the first pixel), type, region, markers; `<slide>.regions.geojson` the
regions in full-resolution pixels, as QuPath writes them.
"""


def draw_samples(folder: Path) -> None:
    """Draw the sample slides, their truth and README.md into `folder`."""
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    nests = draw_slide(seed=11, size_px=SIZE_PX, layout=Layout(nest_um=55, aggregates=0, glass_fraction=0.15))
    aggregate = draw_slide(
        seed=12,
        size_px=SIZE_PX,
        layout=Layout(nest_um=60, tumour_fraction=0.3, aggregate_radius_um=45, glass_fraction=0),
    )
    for name, writer, drawn in (
        ("nests.ome.tif", write_ome_tiff, nests),
        ("aggregate.qptiff", write_qptiff, aggregate),
    ):
        writer(folder / name, drawn.image, channels=drawn.channels, pixel_size_um=drawn.pixel_size_um)
        _write_truth(folder / "truth", name.split(".")[0], drawn)
    (folder / "README.md").write_text(README, encoding="utf-8")


def _write_truth(folder: Path, name: str, drawn: DrawnSlide) -> None:
    import tifffile

    tifffile.imwrite(folder / f"{name}.nuclei.tif", drawn.nuclei, compression="zlib")
    drawn.table.to_csv(folder / f"{name}.cells.csv", index=False, lineterminator="\n", float_format="%.3f")
    outlines = [(region.name, region.polygon_um) for region in drawn.regions]
    write_qupath(folder / f"{name}.regions.geojson", outlines, drawn.pixel_size_um)
