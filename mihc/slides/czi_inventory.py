"""The inventory of a CZI's subblocks against each other and against what its XML declares.

libCZI draws black where a subblock is missing. What is missing in one channel only, or is declared and nowhere, is
refused. A mosaic tile that is missing in every channel is known to be unscanned, so it is told and not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from mihc.slides.contents import MAX_SEGMENT_BYTES, Refusal, brightfield_refusal
from mihc.slides.czi_directory import Subblock

AGAIN = "Export the slide again."
_WORDS = {"C": "channels", "Z": "focal planes", "T": "time points", "S": "scenes"}
_LISTED = 8  # numbers of tiles that a message lists


def scene_refusals(full: Sequence[Subblock], types: set[str], supported: set[str], channels: int) -> list[Refusal]:
    """Why the full-resolution subblocks of one scene are no picture; () when they are."""
    if any(kind.startswith("Bgr") for kind in types):
        return [brightfield_refusal(", ".join(sorted(types)))]
    if len(types) > 1 or not types <= supported:
        return [
            Refusal(f"pixel types {', '.join(sorted(types))} are not supported", "Export one type, Gray8 or Gray16.")
        ]
    others = [d for d in "HIRVB" if len({block.position.get(d, 0) for block in full}) > 1]
    if others:
        return [Refusal(f"several entries in dimension {', '.join(others)}", "Export one of them as its own file.")]
    if max(block.width * block.height for block in full) * 4 > MAX_SEGMENT_BYTES:
        return [Refusal(f"a subblock exceeds the limit of {MAX_SEGMENT_BYTES} bytes decoded")]
    if any((block.stored_width, block.stored_height) != (block.width, block.height) for block in full):
        return [Refusal("a full-resolution subblock is stored in another size than the directory says")]
    return [*_twice(full), *_incomplete(full, channels)][:1]


def file_refusals(full: Sequence[Subblock], declared: dict[str, int]) -> list[Refusal]:
    """Channels, focal planes, time points and scenes that the XML declares but that no subblock has, or the reverse."""
    for dimension, words in _WORDS.items():
        present = len({block.position.get(dimension, 0) for block in full})
        wanted = declared.get(dimension, present)
        if wanted != present:
            return [Refusal(f"{wanted} {words} declared, {present} present", AGAIN)]
    return []


def _twice(full: Sequence[Subblock]) -> list[Refusal]:
    """One tile of one plane stored twice: which of them is right nobody can say."""
    seen = Counter((*sorted(block.position.items()), block.box) for block in full)
    (_, most) = seen.most_common(1)[0]
    twice = sum(count > 1 for count in seen.values())
    return [Refusal(f"{twice} subblocks are there {most} times", AGAIN)] if most > 1 else []


def _incomplete(full: Sequence[Subblock], channels: int) -> list[Refusal]:
    """Every channel and focal plane must have the same tiles: an absent one would be read as black."""
    tiles: dict[tuple[int, int, int], set[tuple[int, int, int, int]]] = {}
    for block in full:
        key = (block.position.get("C", 0), block.position.get("Z", 0), block.position.get("T", 0))
        tiles.setdefault(key, set()).add(block.box)
    present = {c for c, _, _ in tiles}
    if len(present) != channels:
        return [Refusal(f"{channels} channels declared, {len(present)} present", AGAIN)]
    focal, times = {z for _, z, _ in tiles}, {t for _, _, t in tiles}
    if len(tiles) != channels * len(focal) * len(times):
        expected = channels * len(focal) * len(times)
        return [Refusal(f"{expected} planes expected from its channels and focal planes, {len(tiles)} present", AGAIN)]
    everything = set().union(*tiles.values())
    for (c, z, _), have in sorted(tiles.items()):
        if have != everything:
            plane = f"channel {c}" + (f", focal plane {z}," if len(focal) > 1 else "")
            return [Refusal(f"{plane} has {len(have)} of {len(everything)} mosaic tiles", AGAIN)]
    return []


def scene_warnings(full: Sequence[Subblock]) -> Iterator[str]:
    """Numbers of mosaic tiles that no channel of one scene has."""
    numbers = {block.position["M"] for block in full if "M" in block.position}
    if numbers:
        gaps = sorted(set(range(min(numbers), max(numbers) + 1)) - numbers)
        if gaps:
            shown = ", ".join(map(str, gaps[:_LISTED])) + (" and more" if len(gaps) > _LISTED else "")
            yield f"mosaic tiles {shown} are missing in every channel: that part counts as not scanned"


def file_warnings(full: Sequence[Subblock], declared: dict[str, int]) -> Iterator[str]:
    """A canvas or a mosaic that is smaller than the XML declares."""
    width = max(block.box[2] for block in full) - min(block.x for block in full)
    height = max(block.box[3] for block in full) - min(block.y for block in full)
    x, y = declared.get("X", width), declared.get("Y", height)
    if (x, y) != (width, height):
        yield f"{x} x {y} px declared, its tiles fill {width} x {height} px: the rest counts as not scanned"
    numbers = {block.position["M"] for block in full if "M" in block.position}
    tiles = declared.get("M", 0)
    if numbers and tiles > max(numbers) + 1:
        yield f"{tiles} mosaic tiles declared, {max(numbers) + 1} present: the rest counts as not scanned"
