"""What the window pass measures on every window of a slide, and the registry of flags."""

from __future__ import annotations

from dataclasses import dataclass

from mihc.nuclei_stain import Autofluorescence

FLAGS = {
    "touches_edge": 1,  # the cell reaches the border of the slide, so part of it may be missing
    "saturated": 2,  # at least one pixel of a measured channel is at its ceiling
    "out_of_focus": 4,
    "edited": 8,
    "tiny_cytoplasm": 16,  # there is cytoplasm, but less than a fifth of the nucleus' area: few pixels make its means
    "crowded": 32,  # at least half of the cell's border is shared with others; looked at with "spillover" only
}


@dataclass(frozen=True)
class CellSettings:
    """What the window pass does on every window of a slide."""

    nucleus_diameter_um: float
    cell_expansion_um: float
    nuclei_channels: tuple[int, ...]  # planes of the block that are summed to the nuclear stain
    measured: tuple[tuple[int, str], ...]  # (plane of the block, marker), in the order of the table's columns
    fixed_point_bits: tuple[int, ...]  # one per measured channel, 0 for integers; see `fixed_point_bits`
    ceilings: tuple[int, ...] = ()  # one per measured channel: the count that is saturation; () = the dtype's largest
    sensitivity: str = "normal"  # how faint a nucleus may be: "low" | "normal" | "high"
    autofluorescence: Autofluorescence | None = None  # what is taken from the nuclear stain; None = nothing
    features: tuple[str, ...] = ("mean",)  # what is measured beside the means, as `known_features` gives it
