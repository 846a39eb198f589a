"""Units of length, and which of a file's claims about its pixel size holds.

A pixel size is never guessed: it is read with its unit and its source, or given by a person.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from mihc.slides.contents import PixelSizeClaim, Refusal, inspect_line

SMALLEST_UM, LARGEST_UM = 0.05, 5.0  # a pixel outside is a wrong unit, not a slide
TOLERANCE = 0.01  # relative difference of x and y, or of two sources, that is still one pixel size

_UM_PER_UNIT = {
    "pm": "1e-6", "å": "1e-4", "angstrom": "1e-4", "nm": "1e-3", "nanometer": "1e-3", "nanometre": "1e-3",
    "µm": "1", "um": "1", "âµm": "1", "micron": "1", "microns": "1", "micrometer": "1", "micrometre": "1",
    "mm": "1e3", "millimeter": "1e3", "millimetre": "1e3", "cm": "1e4", "centimeter": "1e4", "centimetre": "1e4",
    "m": "1e6", "meter": "1e6", "metre": "1e6", "in": "25400", "inch": "25400", "inches": "25400",
}  # fmt: skip
_SCREEN_DPI = (72.0, 96.0)


def um_per(unit: str) -> Decimal | None:
    """Micrometres in one `unit` ("nm", "µm", "mm", ...), exact; None for a unit that is no length ("pixel")."""
    plain = unit.strip().replace("\\u00b5", "µ").replace("μ", "µ").casefold().replace("μ", "µ")
    factor = _UM_PER_UNIT.get(plain)
    return None if factor is None else Decimal(factor)


def claim_of(source: str, y: tuple[str, str], x: tuple[str, str]) -> PixelSizeClaim:
    """The claim of a (value, unit) text for y and for x; the unit "" is µm."""
    values = []
    for axis, (text, unit) in (("y", y), ("x", x)):
        factor = um_per(unit or "µm")
        if factor is None:
            return PixelSizeClaim(source, problem=f"gives it in the unit “{unit}”, which is no length")
        try:
            values.append(float(Decimal(text.strip()) * factor))
        except (InvalidOperation, ValueError, OverflowError):
            return PixelSizeClaim(source, problem=f"gives “{text}” for {axis}, which is not a number")
    return check_claim(PixelSizeClaim(source, values[0], values[1]))


def check_claim(claim: PixelSizeClaim) -> PixelSizeClaim:
    """The claim, with its problem filled in when no slide has such a pixel size."""
    for value in (claim.y_um, claim.x_um):
        if not (SMALLEST_UM <= value <= LARGEST_UM):
            limits = f"{SMALLEST_UM} to {LARGEST_UM} µm"
            problem = f"gives an implausible {value:.12g} µm per pixel (a slide has {limits})"
            return PixelSizeClaim(claim.source, claim.y_um, claim.x_um, problem)
    return claim


def resolution_claim(resolution: tuple[float, float] | None, unit_um: float | None) -> PixelSizeClaim | None:
    """The claim of a TIFF's resolution tags: (y, x) pixels per unit; None when they say nothing.

    Screen resolutions (72 or 96 dpi) are what programs write that know no pixel size.
    """
    source = "TIFF resolution tags"
    if resolution is None or unit_um is None or min(resolution) <= 0 or not all(map(math.isfinite, resolution)):
        return None
    y_um, x_um = unit_um / resolution[0], unit_um / resolution[1]
    dpi = 25400.0 / x_um
    if any(abs(dpi - screen) < 0.5 for screen in _SCREEN_DPI):
        return PixelSizeClaim(source, y_um, x_um, f"give {dpi:.0f} dpi, a screen resolution, no pixel size")
    return check_claim(PixelSizeClaim(source, y_um, x_um))


def differs(first: float, second: float) -> bool:
    """Whether two pixel sizes differ by more than 1 %."""
    return abs(first - second) > TOLERANCE * max(abs(first), abs(second)) * (1 + 1e-9)


def settle_pixel_size(
    claims: Sequence[PixelSizeClaim], given: tuple[float, float] | None, path: Path
) -> tuple[tuple[float, float], str] | Refusal:
    """The pixel size (y, x) in µm with its source, or the refusal.

    Parameters
    ----------
    claims : what the file says, one per place where it says something
    given : (y, x) µm that a person typed, None when nobody did
    path : names the file in the message
    """
    usable = [claim for claim in claims if not claim.problem]
    for claim in usable:
        if differs(claim.y_um, claim.x_um):
            return Refusal(
                f"pixels are not square: {claim.source} gives {claim.x_um:.6g} x {claim.y_um:.6g} µm,"
                " more than 1 % apart",
                "Export the slide again with square pixels.",
            )
    if given is not None:
        return _settle_given(usable, given)
    if not usable:
        return _nothing_usable(claims, path)
    for claim in usable[1:]:
        if differs(claim.x_um, usable[0].x_um):
            return _disagreement(usable[0], claim)
    return (usable[0].y_um, usable[0].x_um), usable[0].source


def _settle_given(
    usable: Sequence[PixelSizeClaim], given: tuple[float, float]
) -> tuple[tuple[float, float], str] | Refusal:
    typed = check_claim(PixelSizeClaim("pixel_size_um", *given))
    if typed.problem:
        return Refusal(f"pixel_size_um {typed.problem}", "Type the size of one pixel in µm, for example 0.5.")
    if differs(*given):
        return Refusal(
            f"pixel_size_um gives {given[1]:.6g} x {given[0]:.6g} µm, more than 1 % apart", "Type one number."
        )
    agreeing = [claim for claim in usable if not differs(claim.x_um, given[1])]
    if usable and not agreeing:
        found = usable[0]
        return Refusal(
            f"pixel_size_um is {given[1]:.6g} µm, but {found.source} of the file gives {found.x_um:.6g} µm",
            "Leave slides.csv, column pixel_size_um, empty for this slide, or correct it.",
        )
    if agreeing and len(agreeing) == len(usable):
        return (agreeing[0].y_um, agreeing[0].x_um), agreeing[0].source
    return given, "given as pixel_size_um"


def _nothing_usable(claims: Sequence[PixelSizeClaim], path: Path) -> Refusal:
    said = "; ".join(f"{claim.source} {claim.problem}" for claim in claims)
    found = f"no usable physical pixel size: {said}" if said else "no physical pixel size in its metadata"
    return Refusal(
        f"{found}, so areas in mm² cannot be computed",
        f"Give it in slides.csv, column pixel_size_um, or run: {inspect_line(path)}",
    )


def _disagreement(first: PixelSizeClaim, second: PixelSizeClaim) -> Refusal:
    return Refusal(
        f"two pixel sizes disagree: {first.source} gives {first.x_um:.6g} µm,"
        f" {second.source} gives {second.x_um:.6g} µm",
        "Give the right one in slides.csv, column pixel_size_um.",
    )
