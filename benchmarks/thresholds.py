"""Automatic thresholds held against truth: a grid of drawn cell values, drawn slides, and people's gates on real data.

python -m benchmarks.thresholds [--repeats N]         the grid of drawn cell values
python -m benchmarks.thresholds --draws               three families of draws that share no formula with the grid
python -m benchmarks.thresholds --cells 200000        the grid with that number of cells
python -m benchmarks.thresholds --debris 0.002        the same with so many cells far above all others
python -m benchmarks.thresholds --data FOLDER         agreement with gates that people set (needs scikit-learn)
python -m benchmarks.thresholds --speed               20 markers on 1,000,000 cells
python -m benchmarks.thresholds --pictures FOLDER     a dozen histograms with interval and verdict
"""

from __future__ import annotations

import argparse
import itertools
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.threshold_draws import Draw, draws
from mihc.thresholds import Threshold, choose_threshold, examine

PREVALENCES = (0.0, 0.005, 0.02, 0.1, 0.4)
SEPARATIONS = (2.0, 3.0, 4.0, 6.0, 10.0)
CELLS = (2_000, 10_000, 50_000)
DRIFTS = (0.0, 3.0)
TAILS = ("none", "skewed", "granules")
SHAPES = ("normal", "log-normal", "gamma")
DEBRIS = (1.5, 3.4)  # decades of the noise's SD, where the debris of a slide lies
SIGNAL_SPREAD = 0.35  # SD of the positives' signal over its mean, as the drawn slides have it


@dataclass(frozen=True)
class Case:
    """One drawn slide and marker. The separation is the distance of the means in SDs of all negatives."""

    prevalence: float
    separation: float
    drift: float  # how far the background rises over the slide, in SDs of the noise
    tail: str  # autofluorescence: "none", "skewed" (exponential, one SD), "granules" (in 8 % of cells, 3 SDs)
    cells: int
    shape: str  # of the positives' signal
    debris: float = 0.0  # share of the cells that lie far above all others: aggregates of an antibody, dust

    def draw(self, repeat: int) -> tuple[np.ndarray, np.ndarray]:
        """(cells,) counts and (cells,) bool, which a threshold should call positive: debris too, far above."""
        generator = np.random.default_rng([zlib.crc32(repr(astuple(self)[:6]).encode()), repeat])
        positive = np.arange(self.cells) < round(self.prevalence * self.cells)
        negative = negatives(self, generator)
        signal = self.separation * negative.std() * _signal(self.shape, generator, self.cells)
        values = negative + positive * signal
        if self.debris:
            chosen = generator.choice(self.cells, round(self.debris * self.cells), replace=False)
            values[chosen] = 10 ** generator.uniform(*DEBRIS) * generator.lognormal(0, 0.3, chosen.size)
            positive[chosen] = True
        return 300 + 25 * values, positive


def negatives(case: Case, generator: np.random.Generator) -> np.ndarray:
    """(cells,) values without any marker, in SDs of the noise."""
    values = generator.normal(0, 1, case.cells) + case.drift * generator.random(case.cells)
    if case.tail == "skewed":
        values += generator.exponential(1.0, case.cells)
    if case.tail == "granules":
        values += (generator.random(case.cells) < 0.08) * generator.exponential(3.0, case.cells)
    return values


def _signal(shape: str, generator: np.random.Generator, cells: int) -> np.ndarray:
    """(cells,) with mean 1 and SD SIGNAL_SPREAD."""
    if shape == "normal":
        return generator.normal(1, SIGNAL_SPREAD, cells)
    if shape == "gamma":
        return generator.gamma(SIGNAL_SPREAD**-2, SIGNAL_SPREAD**2, cells)
    spread = np.sqrt(np.log1p(SIGNAL_SPREAD**2))
    return generator.lognormal(-(spread**2) / 2, spread, cells)


def grid(numbers: Sequence[int] = CELLS) -> list[Case]:
    """Every case with these numbers of cells; without positives, separation and shape say nothing."""
    cases = []
    for prevalence, drift, tail, cells in itertools.product(PREVALENCES, DRIFTS, TAILS, numbers):
        if not prevalence:
            cases.append(Case(prevalence, 0.0, drift, tail, cells, "normal"))
            continue
        for separation, shape in itertools.product(SEPARATIONS, SHAPES):
            cases.append(Case(prevalence, separation, drift, tail, cells, shape))
    return cases


# ---- one row per slide, and tables of them


def row(values: np.ndarray, positive: np.ndarray) -> dict:
    """Verdict, and positivity (%): planted, called, and at both ends of the interval."""
    chosen, truth = choose_threshold(values), 100 * positive.mean()
    ends = [100 * np.mean(values >= cut) if np.isfinite(cut) else np.nan for cut in (chosen.high, chosen.low)]
    found = 100 * np.mean(values >= chosen.value) if chosen.verdict == "separable" else np.nan
    covered = ends[0] <= truth <= ends[1]
    return {"verdict": chosen.verdict, "error": found - truth, "width": ends[1] - ends[0], "covered": covered}


def drawn_row(job: tuple[Case | Draw, int]) -> dict:
    case, repeat = job
    return asdict(case) | row(*case.draw(repeat))


def repeats(cases: list[Case] | list[Draw], first: int, number: int, without: int) -> list[tuple[Case | Draw, int]]:
    """Every case with its repeats; `without` times as many of slides without positives, which are few cases."""
    times = {case: number * (1 if case.prevalence else without) for case in cases}
    return [(case, first + repeat) for case, count in times.items() for repeat in range(count)]


def summary(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Per group: slides, % of each verdict, and of the separable the error, the interval's width and its coverage."""

    def one(group: pd.DataFrame) -> pd.Series:
        clear = group[group["verdict"] == "separable"]
        near = clear["error"].abs() <= 1
        share = {
            name: 100 * (group["verdict"] == name).mean() for name in ("separable", "cannot tell", "negative slide")
        }
        return pd.Series(
            {"slides": len(group)}
            | share
            | {
                "median error": clear["error"].abs().median(),
                "bias": clear["error"].median(),
                "within 1 point %": 100 * near.mean(),
                "separable, within 1 %": 100 * near.sum() / len(group),
                "median width": clear["width"].median(),
                "covered %": 100 * clear["covered"].mean(),
            }
        )

    return rows.groupby(by).apply(one, include_groups=False)


def tables(rows: pd.DataFrame) -> None:
    """Print what the acceptance asks, then every part of the grid."""
    pd.set_option("display.width", 250, "display.max_columns", 30, "display.max_rows", 200, "display.precision", 1)
    part = np.select(
        [rows["prevalence"] == 0, rows["separation"] >= 3], ["no positives", "3 SDs or more apart"], "nearer than 3 SDs"
    )
    rows = rows.assign(part=part)
    print(summary(rows, ["part"]), "\n")
    print(summary(rows, ["part", "tail"]), "\n")
    if "family" in rows:
        print(summary(rows, ["part", "family"]), "\n", summary(rows, ["part", "family", "cells"]), "\n")
        print(summary(rows, ["part", "cells"]), "\n")
    print(summary(rows, ["part", "tail", "cells"]) if "cells" in rows else "", "\n")
    print(summary(rows, ["tail", "prevalence", "separation"]))


# ---- real data


def kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Cohen's kappa of two boolean calls."""
    agreed = np.mean(one == other)
    chance = one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())
    return float((agreed - chance) / (1 - chance)) if chance < 1 else float("nan")


def gated(data: Path) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Set, marker, values and a person's or program's calls."""
    folder = data / "cells_cycif_scimap"
    if folder.exists():
        cells = pd.read_csv(folder / "exemplar-001--unmicst_cell.csv.gz")
        for marker, gate in pd.read_csv(folder / "manual_gates.csv", index_col=0).iloc[:, 0].items():
            yield folder.name, marker, cells[marker].to_numpy(), np.log1p(cells[marker].to_numpy()) >= gate
    folder = data / "mif_breast_csm"
    if folder.exists():
        values = pd.read_csv(next(folder.glob("*features.csv")))
        calls = pd.read_csv(next(folder.glob("*phenotypes.csv")))
        for marker in ("CK-EPCAM", "CD8a", "GZMB"):
            called = calls[f"{marker.replace('-', '_')}_AVERAGE"].to_numpy(bool)
            yield folder.name, marker, 255 * values[f"{marker}_AVERAGE"].to_numpy(), called
    folder = data / "vectra_inform_lung_set4"
    if folder.exists():
        cells = pd.read_csv(next(folder.glob("*.csv.gz")))
        for name, phenotype in (
            ("CD8 (Opal 540)", "CD8+"),
            ("FoxP3 (Opal 570)", "FoxP3+"),
            ("CD68 (Opal 620)", "CD68+"),
            ("CK (Opal 690)", "CK+"),
        ):
            place = "Nucleus" if "FoxP3" in name else "Entire Cell"
            values = pd.to_numeric(cells[f"{place} {name} Mean"], errors="coerce").to_numpy()
            known = np.isfinite(values)
            yield folder.name, phenotype, values[known], (cells["Phenotype"] == phenotype).to_numpy()[known]
    folder = data / "RESTRICTED_positivity_deepliif"
    if folder.exists():
        import tifffile

        labels, image = tifffile.imread(folder / "Lung1_lab.tif"), tifffile.imread(folder / "Lung1.ome.tif")
        cells = pd.read_csv(folder / "Lung1_cells.csv")
        sums = np.bincount(labels.ravel(), weights=image[2].ravel().astype(float))
        means = sums / np.maximum(np.bincount(labels.ravel()), 1)
        yield folder.name, "Ki67", means[cells["label"]], cells["Ki67_positive"].to_numpy(bool)


def peers(values: np.ndarray) -> dict[str, np.ndarray]:
    """Calls of Otsu's threshold and of a mixture of two normal distributions, on counts and on their logarithm."""
    from skimage.filters import threshold_otsu
    from sklearn.mixture import GaussianMixture

    calls = {}
    for scale, numbers in (("", values), (" log", np.log1p(values - min(values.min(), 0)))):
        calls["Otsu" + scale] = numbers >= threshold_otsu(numbers)
        mixture = GaussianMixture(2, random_state=0, n_init=3).fit(numbers[:, None])
        calls["mixture" + scale] = mixture.predict(numbers[:, None]) == mixture.means_[:, 0].argmax()
    return calls


def agreement(data: Path) -> None:
    """Kappa with people's gates, of decided slides and of the best guess, beside Otsu and a mixture."""
    print(f"{'set and marker':44s} cells  gate %  best % (range)          verdict        kappa  Otsu  mix. o.log m.log")
    for folder, marker, values, truth in gated(data):
        chosen, (evidence, _) = choose_threshold(values), examine(values)
        guess = values >= evidence.cut
        others = " ".join(f"{kappa(truth, calls):5.2f}" for calls in peers(values).values())
        plausible = f"{100 * evidence.share_low:.1f} to {100 * evidence.share_high:.1f}"
        print(
            f"{folder + ' ' + marker:44s} {len(values):5d} {100 * truth.mean():6.1f} {100 * guess.mean():6.1f} "
            f"({plausible:14s}) {chosen.verdict:14s} {kappa(truth, guess):6.2f} {others}   {chosen.reason}"
        )


# ---- speed and pictures


def speed() -> None:
    """CPU seconds of 20 markers on 1,000,000 cells."""
    kinds = [case for case in grid() if case.cells == 10_000]
    markers = [Case(*astuple(case)[:4], 1_000_000, case.shape).draw(0)[0] for case in kinds[:: len(kinds) // 20][:20]]
    choose_threshold(markers[0])
    started = time.process_time()
    for values in markers:
        choose_threshold(values)
    used = time.process_time() - started
    started = time.process_time()
    for values in markers:
        np.sort(values)
    print(f"20 markers, 1,000,000 cells: {used:.2f} CPU-s; sorting the same values {time.process_time() - started:.2f}")


def picture(folder: Path) -> None:
    """A dozen histograms with value, interval and verdict; what is planted in orange."""
    from matplotlib.figure import Figure

    cases = [Case(p, s, d, t, 10_000, "gamma") for p, s, d, t in PICTURED]
    figure = Figure(figsize=(16, 11), layout="constrained")
    for axes, case in zip(figure.subplots(4, 3).flat, cases):
        values, positive = case.draw(0)
        chosen = choose_threshold(values)
        _histogram(axes, values, positive, chosen)
        planted = f"{100 * case.prevalence:g} % at {case.separation:g} SDs, drift {case.drift:g}, {case.tail}"
        axes.set_title(f"{planted}\n{chosen.verdict}: {chosen.reason}", fontsize=7, wrap=True)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "thresholds.png", dpi=80)


PICTURED = (
    *((0.0, 0.0, 0.0, "none"), (0.0, 0.0, 3.0, "skewed"), (0.0, 0.0, 0.0, "granules")),
    *((0.005, 6.0, 0.0, "none"), (0.02, 3.0, 0.0, "none"), (0.02, 4.0, 0.0, "skewed")),
    *((0.1, 3.0, 3.0, "skewed"), (0.1, 4.0, 0.0, "granules"), (0.1, 10.0, 0.0, "none")),
    *((0.4, 3.0, 0.0, "none"), (0.4, 4.0, 3.0, "none"), (0.4, 10.0, 0.0, "skewed")),
)


def _histogram(axes, values: np.ndarray, positive: np.ndarray, chosen: Threshold) -> None:
    edges = np.linspace(values.min(), np.quantile(values, 0.999), 120)
    axes.hist(values, edges, color="#9fb3c4")
    axes.hist(values[positive], edges, color="#d0802b")
    if np.isfinite(chosen.low):
        axes.axvspan(chosen.low, chosen.high, color="#3a7d44", alpha=0.25)
    if chosen.verdict == "separable":
        axes.axvline(chosen.value, color="black")
    axes.set_yscale("symlog", linthresh=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="of the repeats: other numbers, other seeds")
    parser.add_argument("--draws", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cells", type=int, default=0, help="only this number of cells per slide")
    parser.add_argument("--debris", type=float, default=0.0, help="share of the cells; not with --draws")
    parser.add_argument("--rows", type=Path, help="a CSV file for one row per slide")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--pictures", type=Path)
    chosen = parser.parse_args()
    if chosen.data:
        agreement(chosen.data)
    elif chosen.speed:
        speed()
    elif chosen.pictures:
        picture(chosen.pictures)
    else:
        cases, without = (draws(), 4) if chosen.draws else (grid((chosen.cells,) if chosen.cells else CELLS), 10)
        cases = [case for case in cases if not chosen.cells or case.cells == chosen.cells]
        cases = [replace(case, debris=chosen.debris) for case in cases] if chosen.debris else cases
        jobs = repeats(cases, chosen.first, chosen.repeats, without)
        with ProcessPoolExecutor(chosen.workers) as pool:
            rows = pd.DataFrame(list(pool.map(drawn_row, jobs, chunksize=8)))
        if chosen.rows:
            rows.to_csv(chosen.rows, index=False)
        tables(rows)


if __name__ == "__main__":
    main()
