"""The command line: parse, call, print. Every verb says which file appears."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mihc.errors import DamagedError, MihcError, PartialFailure, StudyProblems, UsageError, quoted_path

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from mihc.pipeline import Results
    from mihc.store import Store

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Multiplex immunofluorescence whole slides to numbers an oncology team can publish. Start with: mihc demo",
)

UNTIL = "stop after this stage: slide, cells, regions, values, positives, study, statistics or robustness"
MOST_SECONDS_TO_STOP = 8.0  # for windows under way, after Ctrl-C or a termination
StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="the study folder, with study.toml in it")]
Workers = Annotated[int, typer.Option(min=1, help="how many windows are computed at once; changes no result")]


def _number(text: str) -> float:
    """A number as it is typed, with a decimal point."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number with a decimal point, such as 0.325") from None


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="where the study is drawn")] = Path("mihc-demo"),
    patients: Annotated[int, typer.Option(min=4, help="how many patients")] = 36,
    seed: Annotated[int, typer.Option(help="another seed draws another study")] = 7,
    workers: Annotated[int | None, typer.Option(min=1, help="how many windows at once")] = None,
) -> None:
    """Draw a study with known truth, run it, and show measured against planted. Writes FOLDER/results/report.html."""
    from mihc import synthetic

    if (folder / "study.toml").exists() and not (folder / "truth").is_dir():
        raise UsageError(f"{quoted_path(folder)} is a study of your own", fix=f"Type: mihc run {quoted_path(folder)}")
    if (folder / "study.toml").exists():
        print(f"{folder} has a drawn study already: it is shown, not drawn anew.", file=sys.stderr)
    else:
        print(f"Drawing a study of {patients} patients in {folder} ...", file=sys.stderr)
        with _executor(workers) as executor:
            synthetic.draw_study(folder, patients=patients, seed=seed, executor=executor)
    results = _run(folder, workers=workers)
    print(synthetic.comparison_summary(synthetic.compare_with_truth(folder)))
    _finish(results)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="a folder of slides")],
    pseudonyms: Annotated[bool, typer.Option(help="name the slides S001, S002, ..., not after their files")] = False,
) -> None:
    """Write study.toml, panel.csv, slides.csv and clinical.csv for a folder of slides, filled in from the slides."""
    from mihc.study import init_study

    written, notes = init_study(folder, pseudonyms=pseudonyms)
    for path in written:
        print(f"wrote {path}")
    for note in notes:
        print(note)
    print(f"Next: look through these files, then type: mihc check {quoted_path(folder)}")


@app.command()
def inspect(
    slide: Annotated[Path, typer.Argument(help="a CZI, QPTIFF, OME-TIFF, TIFF or OME-Zarr")],
    scene: Annotated[str | None, typer.Option(help="a scene's name or index, or all")] = None,
    pixel_size_um: Annotated[
        float | None, typer.Option(parser=_number, metavar="NUMBER", help="µm per pixel, where the file does not say")
    ] = None,
) -> None:
    """Show what is in a slide: channels, pixel size and where it comes from, scenes, pyramid. Writes nothing."""
    from mihc.slide import inspect_slide

    print("\n".join(inspect_slide(slide, scene=scene, pixel_size_um=pixel_size_um)))


@app.command()
def check(study: StudyFolder) -> None:
    """List every problem of a study, before any pixel is computed. Writes nothing."""
    from mihc.study import check_study

    problems = check_study(study)
    for problem in problems:
        print(f"{problem.severity}: {problem}")
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise typer.Exit(StudyProblems.exit_code)
    warnings = f", {len(problems)} warning{'s' * (len(problems) > 1)}" if problems else ""
    print(f"No errors{warnings}. Next: mihc run {quoted_path(study)}")


@app.command()
def run(
    study: StudyFolder,
    workers: Annotated[int | None, typer.Option(min=1, help="windows at once; study.toml's [compute] workers")] = None,
    scheduler: Annotated[str | None, typer.Option(metavar="tls://HOST:PORT", help="a Dask scheduler")] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="the scheduler's certificate authority")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="this client's certificate")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="this client's key")] = None,
    allow_insecure: Annotated[bool, typer.Option(help="accept tcp:// to another host")] = False,
    slides: Annotated[str | None, typer.Option(help="only these slides, with commas between: S1,S2")] = None,
    until: Annotated[str | None, typer.Option(help=UNTIL)] = None,
) -> None:
    """Run the whole flow; only what changed is computed again. Writes STUDY/results/, report.html last."""
    from mihc.cluster import connect

    if scheduler is None:
        _finish(_run(study, workers=workers, slides=slides, until=until))
        return
    with connect(scheduler, ca=tls_ca, certificate=tls_cert, key=tls_key, allow_insecure=allow_insecure) as executor:
        _finish(_run(study, workers=workers, slides=slides, until=until, executor=executor))


@app.command()
def review(
    study: StudyFolder,
    slide: Annotated[str | None, typer.Option(help="the slide to open; the first one without it")] = None,
    region: Annotated[str | None, typer.Option(help="look at this region")] = None,
    population: Annotated[str | None, typer.Option(help="show the positive cells of this population")] = None,
    reviewer: Annotated[str | None, typer.Option(help="whose review this is; your login name without it")] = None,
) -> None:
    """Look at a study's results in napari and correct them (needs napari-mihc). Writes STUDY/review/REVIEWER/."""
    _recovered(study)
    try:
        from napari_mihc import review_study
    except ImportError:
        raise UsageError(
            "the napari plugin is not installed", fix="Type: pip install napari-mihc 'napari[pyside6]'"
        ) from None
    review_study(study, slide=slide, region=region, population=population, reviewer=reviewer)


@app.command()
def export(
    study: StudyFolder,
    to: Annotated[
        str,
        typer.Option(
            help="csv, xlsx: one row per cell with its region, and regions; anndata: one .h5ad per slide; spatialdata:"
            " one .zarr per slide; geojson: regions and cell outlines for QuPath; mcquant: MCMICRO's tables, pixels"
        ),
    ] = "csv",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="where to; STUDY/exports/FORMAT without it")
    ] = None,
    slides: Annotated[str | None, typer.Option(help="only these slides, with commas between: S1,S2")] = None,
    images: Annotated[bool, typer.Option(help="spatialdata: copy the pictures too, which may be gigabytes")] = True,
) -> None:
    """Write cells and regions for other programs into a folder of their own; results/ stays as it is.

    An older export in that folder is replaced; a folder that holds anything else is refused. xlsx, anndata and
    spatialdata need: pip install "mihc[export]"
    """
    from mihc.export import export_study
    from mihc.study import read_study

    wanted = [name.strip() for name in slides.split(",")] if slides else None
    exported = export_study(
        read_study(study),
        to=to,
        out=out,
        slides=wanted,
        images=images,
        tell=lambda slide: print(f"{slide} ...", file=sys.stderr),
    )
    for note in exported.notes:
        print(note)
    print(f"wrote {exported.folder}: {len(exported.slides)} slide{'s' * (len(exported.slides) > 1)} as {to}")


@app.command()
def verify(
    study: StudyFolder,
    repair: Annotated[bool, typer.Option(help="make what is damaged again")] = False,
) -> None:
    """Check every stored byte of the results against its checksum. Writes nothing, unless --repair is given."""
    if repair:
        from mihc.store import rebuild_marker

        rebuild_marker(study / "results")
    store = _recovered(study)
    damaged = store.damage()
    for damage in damaged:
        print(damage)
    if not damaged:
        print("Every stored byte is as it was written.")
    elif not repair:
        raise DamagedError(
            "what is stored is not what was written: 1 problem"
            if len(damaged) == 1
            else f"what is stored is not what was written: {len(damaged)} problems",
            place=str(store.folder),
            fix=f"To make the damaged parts again, type: mihc verify {quoted_path(study)} --repair",
        )
    else:
        for stage, slide in dict.fromkeys((damage.stage, damage.slide) for damage in damaged):
            store.forget(stage, slide)
        _finish(_run(study))


@app.command()
def digest(study: StudyFolder) -> None:
    """Print one hash of every table, label and number; not of times, versions or pictures."""
    from mihc.store import digest_results

    print(digest_results(_recovered(study).folder))


def _recovered(study: Path) -> Store:
    """The study's results, whole: what a killed run left is completed or discarded first."""
    from mihc.store import Store

    if not (study / "results").is_dir():
        raise UsageError("there are no results yet", place=str(study), fix=f"Type: mihc run {quoted_path(study)}")
    store = Store(study / "results")
    store.recover()
    return store


def _executor(workers: int | None) -> Executor:
    from mihc.pipeline import local_executor

    return local_executor(workers)


def _run(
    folder: Path,
    *,
    workers: int | None = None,
    slides: str | None = None,
    until: str | None = None,
    executor: Executor | None = None,
) -> Results:
    from mihc.console import progress
    from mihc.pipeline import run as run_study
    from mihc.study import read_study

    study = read_study(folder)
    wanted = [name.strip() for name in slides.split(",")] if slides else None
    with progress(len(wanted or study.slides)) as tell:
        return run_study(study, executor=executor, workers=workers, slides=wanted, until=until, progress=tell)


def _finish(results: Results) -> None:
    """Say what was done and where it lies; exit 4 when a slide failed."""
    made = sum(step.why != "reused" for step in results.steps)
    print(f"{made} stages computed, {len(results.steps) - made} reused.")
    if results.report is not None:
        print(f"Report: {results.report}")
    for slide, message in results.failed.items():
        print(f"FAILED {slide}: {message}")
    if results.failed:
        raise PartialFailure(f"finished, but {len(results.failed)} of {results.slides} slides failed")


def _stop(number: int, _: object) -> None:
    """Stop in good order, what is begun discarded; a second signal, or time, ends at once, which the store survives."""
    last_word = threading.Timer(MOST_SECONDS_TO_STOP, os._exit, [128 + number])
    last_word.daemon = True
    last_word.start()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda again, _: os._exit(128 + again))
    os.write(2, b"\nStopping. The same command goes on from here.\n")
    raise SystemExit(128 + number)


def _flushed(code: object) -> object:
    """The exit code, after the last output: a reader that has seen enough (`| head`) is no error.

    Typer makes an exit code of 1 of a closed pipe, which here means a defect; no verb exits with 1 itself.
    """
    closed = code == 1
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        closed = True
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still held back meets no pipe when Python ends
    return 0 if code == 1 else code


def main() -> None:
    """Run the command line; an error of mihc's becomes its message and its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments)
    except SystemExit as left:
        raise SystemExit(_flushed(left.code)) from None
    except MihcError as error:
        if debug:
            raise
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        if debug:
            raise
        print(f"A defect of mihc: {type(error).__name__}: {error}\nShow where: add --debug", file=sys.stderr)
        raise SystemExit(1) from None
