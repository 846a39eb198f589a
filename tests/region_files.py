"""One shape written as each program writes it: QuPath's GeoJSON, HALO's and ASAP's XML, ImageJ's ROI."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile
from hypothesis import strategies as st
from shapely.geometry import Polygon

from mihc.errors import AnnotationError
from mihc.regions import read_annotations

Ring = list[list[float]]  # closed, x and y in pixels
SUB_PIXEL = roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]


def shifted(ring: Ring, x: float = 0, y: float = 0) -> Ring:
    return [[a + x, b + y] for a, b in ring]


def refusal(path: Path) -> str:
    """What is said of a region file that is refused, naming the file."""
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path, pixel_size_um=0.5)
    assert caught.value.place.startswith(path.name)
    return str(caught.value)


def feature(rings, classification="Tumor", name=None, kind="Polygon", **properties) -> dict:
    known = {"objectType": "annotation", "classification": classification, "name": name, **properties}
    return {
        "type": "Feature",
        "id": "6423a977-ffff",
        "geometry": {"type": kind, "coordinates": rings},
        "properties": {key: value for key, value in known.items() if value is not None},
    }


def write_geojson(path: Path, features: list[dict], **members) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **members}), encoding="utf-8")
    return path


def write_halo(path: Path, layer: str, shells: list[Ring], holes: list[Ring]) -> Path:
    regions = "".join(_halo_region(ring, 0) for ring in shells) + "".join(_halo_region(ring, 1) for ring in holes)
    path.write_text(
        f'<Annotations><Annotation LineColor="65535" Name="{layer}" Visible="True"><Regions>{regions}</Regions>'
        "</Annotation></Annotations>",
        encoding="utf-8",
    )
    return path


def _halo_region(ring: Ring, negative: int) -> str:
    vertices = "".join(f'<V X="{x}" Y="{y}" />' for x, y in ring)
    return f'<Region Type="Polygon" HasEndcaps="0" NegativeROA="{negative}"><Vertices>{vertices}</Vertices></Region>'


def asap_annotation(ring: Ring, group="Tumor", name="Annotation 0", kind="Polygon", orders=None) -> str:
    """ASAP closes an outline itself, so the last vertex is not the first again."""
    open_ring = ring[:-1] if len(ring) > 1 and ring[0] == ring[-1] else ring
    orders = orders or range(len(open_ring))
    vertices = "".join(f'<Coordinate Order="{k}" X="{x}" Y="{y}" />' for k, (x, y) in zip(orders, open_ring))
    return (
        f'<Annotation Name="{name}" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f"<Coordinates>{vertices}</Coordinates></Annotation>"
    )


def write_asap(path: Path, *annotations: str) -> Path:
    groups = '<AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#00aa00"><Attributes /></Group>'
    path.write_text(
        f'<?xml version="1.0"?>\n<ASAP_Annotations><Annotations>{"".join(annotations)}</Annotations>'
        f"{groups}</AnnotationGroups></ASAP_Annotations>\n",
        encoding="utf-8",
    )
    return path


def roi_polygon(ring: Ring, name="Tumor", kind=roifile.ROI_TYPE.POLYGON) -> bytes:
    """A polygon as roifile writes it: sub-pixel where the coordinates are no whole numbers of 16 bits."""
    points = np.array(ring[:-1])
    whole = points.astype(np.int64)
    roi = roifile.ImagejRoi.frompoints(whole if np.array_equal(points, whole) else points, name=name)
    roi.roitype, roi.version = kind, 228
    return roi.tobytes()


def roi_composite(rings: list[Ring], name="Tumor") -> bytes:
    """Several outlines in one ROI: moves, lines and closes."""
    path: list[float] = []
    for ring in rings:
        for code, (x, y) in zip([0.0] + [1.0] * len(ring), ring[:-1]):
            path += [code, x, y]
        path.append(4.0)
    roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, version=228, name=name, shape_roi_size=len(path))
    roi.multi_coordinates = np.array(path, dtype=np.float32)
    x, y = np.vstack([np.array(ring) for ring in rings]).T
    roi.left, roi.top, roi.right, roi.bottom = int(x.min()), int(y.min()), int(x.max()), int(y.max())
    return roi.tobytes()


def roi_bytes(**fields) -> bytes:
    return roifile.ImagejRoi(version=228, **fields).tobytes()


def zipped(members: dict[str, bytes], *, mode: int | None = None, method=zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = method
            if mode is not None:
                member.external_attr = mode << 16
            archive.writestr(member, content)
    return packed.getvalue()


def zip_with_name(name: str, content: bytes) -> bytes:
    """A zip whose member has a name that zipfile would clean while writing."""
    safe = "x" * len(name.encode())
    return zipped({safe: content}, method=zipfile.ZIP_STORED).replace(safe.encode(), name.encode())


def declared_count(packed: bytes, size: int) -> bytes:
    """A zip that declares another unpacked size of its first member than it has."""
    start = packed.index(b"PK\x01\x02")
    changed = packed[: start + 24] + struct.pack("<I", size) + packed[start + 28 :]
    return changed[:22] + struct.pack("<I", size) + changed[26:]


@st.composite
def stars(draw, x=50, y=50, largest=40, quarters=False) -> Ring:
    """A closed ring that does not cross itself, its vertices whole pixels, or quarters of them."""
    count = draw(st.integers(5, 14))
    radii = draw(st.lists(st.integers(9, largest), min_size=count, max_size=count))
    grain = 4 if quarters else 1
    angles = 2 * math.pi * np.arange(count) / count
    ring = [
        [round(grain * (x + r * math.cos(a))) / grain, round(grain * (y + r * math.sin(a))) / grain]
        for r, a in zip(radii, angles)
    ]
    ring = ring if quarters else [[int(a), int(b)] for a, b in ring]
    ring.append(ring[0])
    return ring if Polygon(ring).is_valid else [[x, y], [x + 9, y], [x, y + 9], [x, y]]
