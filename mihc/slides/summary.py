"""A file's contents in words, for `mihc inspect`."""

from __future__ import annotations

from collections import Counter

from mihc.slides.contents import SceneContents, SlideContents


def summarise(
    contents: SlideContents,
    scene: SceneContents | None,
    pixel_size_um: tuple[float, float] | None = None,
    source: str = "",
) -> list[str]:
    """Lines for people about a file and one of its scenes (None = not chosen yet: the first is described)."""
    shown = scene or contents.scenes[0]
    lines = [f"file         {contents.path.name}", f"format       {contents.format}"]
    if len(contents.scenes) > 1:
        lines += _scene_lines(contents)
        lines.append(f"of {_name(shown, contents)}:")
    lines += _image_lines(shown, pixel_size_um)
    lines += _pixel_size_lines(shown, pixel_size_um, source)
    lines += [f"{key:<12} {value}" for key, value in shown.facts.items()]
    lines += [f"not read     {plain(name)}" for name in contents.ignored]
    lines += [f"warning      {warning}" for warning in shown.warnings]
    return [*lines, *_channel_lines(shown)]


def plain(text: str) -> str:
    """A name from a file as one short printable line: a terminal must not obey it."""
    shown = "".join(character if character.isprintable() else "�" for character in text)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"


def _name(scene: SceneContents, contents: SlideContents) -> str:
    if scene is contents.all_scenes:
        return "all scenes"
    at = next(i for i, each in enumerate(contents.scenes) if each is scene)
    return f"scene {at} “{plain(scene.name)}”" if scene.name else f"scene {at}"


def _scene_lines(contents: SlideContents) -> list[str]:
    return [
        f"scene {at:<6} “{plain(each.name)}”, {each.shape[2]} x {each.shape[1]} px"
        for at, each in enumerate(contents.scenes)
    ]


def _image_lines(scene: SceneContents, pixel_size_um: tuple[float, float] | None) -> list[str]:
    channels, height, width = scene.shape
    size = f"{width} x {height} px"
    if pixel_size_um is not None:
        size += f", {width * pixel_size_um[1] / 1000:.4g} x {height * pixel_size_um[0] / 1000:.4g} mm"
    lines = [f"size         {size}", f"pixels       {channels} channels, {scene.dtype.name}"]
    if scene.significant_bits is not None:
        lines[-1] += f", {scene.significant_bits} significant bits"
    if scene.z_planes > 1:
        lines.append(f"focal planes {scene.z_planes}")
    if scene.time_points > 1:
        lines.append(f"time points  {scene.time_points}")
    levels = scene.levels or ((height, width),)
    return [*lines, f"pyramid      {len(levels)} levels: " + ", ".join(f"{x} x {y}" for y, x in levels)]


def _pixel_size_lines(scene: SceneContents, pixel_size_um: tuple[float, float] | None, source: str) -> list[str]:
    if pixel_size_um is not None:
        y_um, x_um = pixel_size_um
        size = f"{x_um:.6g} µm" if x_um == y_um else f"{x_um:.6g} x {y_um:.6g} µm"
        return [f"pixel size   {size} ({source})"]
    if not scene.pixel_sizes:
        return ["pixel size   not in the file"]
    said = [claim.problem or f"gives {claim.x_um:.6g} x {claim.y_um:.6g} µm" for claim in scene.pixel_sizes]
    return [f"pixel size   {claim.source} {text}" for claim, text in zip(scene.pixel_sizes, map(plain, said))]


def _channel_lines(scene: SceneContents) -> list[str]:
    counts = Counter(scene.channels)
    lines = ["channels"]
    dyes = scene.dyes or ("",) * len(scene.channels)
    for index, (name, dye) in enumerate(zip(scene.channels, dyes)):
        shown = f" [{plain(dye)}]" if dye and dye not in name else ""
        note = " (this name occurs more than once: give the index in panel.csv)" if name and counts[name] > 1 else ""
        lines.append(f"  {index:>3}  {plain(name) or '(no name: give the index in panel.csv)'}{shown}{note}")
    return lines
