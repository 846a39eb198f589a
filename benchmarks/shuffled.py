"""A thousand studies in which nothing goes with anything: how often is something found? (TRUST.md NP44)

One cohort is drawn, and its outcomes are shuffled over its patients a thousand times: follow-up together, response and
mutation each alone. Every study is put to every test. Of a thousand, 29 to 71 raw p at or below 0.05 are within three
standard errors of 50 for one test and split; a family may claim something in at most 71.

    python -m benchmarks.shuffled [--studies 1000] [--patients 60]

It prints, for each test and split, how many studies had p <= 0.05 in the first test of its family, and in how many the
family claimed anything after adjustment; and the Kolmogorov-Smirnov p against uniform where the test is continuous.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from scipy import stats

from mihc.associate import associate
from mihc.studies.settings import Outcome, Response, Settings, Splits, StudyInfo


def settings() -> Settings:
    """A study with every split, two endpoints, a response and a mutation."""
    return Settings(
        StudyInfo("shuffled"),
        outcomes={"PFS": Outcome("pfs", "pfs_event"), "OS": Outcome("os", "os_event")},
        responses={"ORR": Response("best", ("CR", "PR"))},
        groups=("signature", "site"),
        splits=Splits(outcome=("slope_change", "landmark:12", "median"), marker=("median", "tertiles", "maxstat")),
    )


def cohort(patients: int, seed: int) -> pd.DataFrame:
    """Two markers that go with each other in two measures, and outcomes with censoring."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"patient": [f"P{place:03d}" for place in range(patients)], "slides": 1})
    level = rng.normal(4, 1, patients)
    for name in ("CD8", "CD20"):
        density = np.exp(level + rng.normal(0, 0.7, patients))
        table[f"{name}|tumour|density_per_mm2"] = density
        table[f"{name}|tumour|positivity_percent"] = 100 * density / (density + np.exp(rng.normal(6, 0.3, patients)))
    frailty = rng.normal(0, 0.5, patients)
    for endpoint, scale in (("pfs", 10), ("os", 18)):
        event, end = rng.exponential(scale * np.exp(frailty)), rng.uniform(8, 30, patients)
        table[endpoint] = np.minimum(event, end)
        table[f"{endpoint}_event"] = (event <= end).astype(float)
    table["best"] = rng.choice(["CR", "PR", "SD", "PD", "NE"], patients)
    table["signature"] = rng.choice(["wild type", "mutated"], patients)
    table["site"] = rng.choice(["a", "b", "c"], patients)
    return table


def shuffled(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The same patients with the outcomes of others; an outcome stays whole."""
    found = table.copy()
    for columns in (["pfs", "pfs_event", "os", "os_event"], ["best"], ["signature"], ["site"]):
        found[columns] = table[columns].to_numpy()[rng.permutation(len(table))]
    return found.astype({name: float for name in ("pfs", "pfs_event", "os", "os_event")})


def tests_of(studies: int, patients: int, seed: int) -> tuple[dict[str, list[float]], dict[str, int], int]:
    """family -> the raw p of its first test in every study; how often it claims; studies in which any family does."""
    rng, table, asked = np.random.default_rng(seed), cohort(patients, seed), settings()
    first: dict[str, list[float]] = {}
    claims: dict[str, int] = {}
    anywhere = 0
    for _ in range(studies):
        found = associate(shuffled(table, rng), asked)
        tested = found[found["p"].notna()]
        some = False
        for family, rows in tested.groupby("family", sort=False):
            first.setdefault(family, []).append(float(rows["p"].iloc[0]))
            claimed = bool((rows["p_adjusted"] < 0.05).any())
            claims[family] = claims.get(family, 0) + claimed
            some |= claimed
        anywhere += some
    return first, claims, anywhere


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--seed", type=int, default=11)
    chosen = parser.parse_args()
    started = time.process_time()
    first, claims, anywhere = tests_of(chosen.studies, chosen.patients, chosen.seed)
    expected, spread = 0.05 * chosen.studies, (0.05 * 0.95 * chosen.studies) ** 0.5
    low, high = round(expected - 3 * spread), round(expected + 3 * spread)
    print(f"{chosen.studies} studies of {chosen.patients} patients; expected {low} to {high} with raw p <= 0.05")
    print("raw  claims  KS p    family")
    for family, p in first.items():
        raw = sum(one <= 0.05 for one in p)
        analysis = family.rsplit(": ", 1)[-1].casefold()
        uniform = f"{stats.kstest(p, 'uniform').pvalue:.4f}" if analysis in ("cox", "log-rank") else "steps "
        marks = ("" if raw <= high else "  RAW TOO MANY") + ("" if claims[family] <= high else "  CLAIMS TOO MANY")
        marks += "" if raw >= low or uniform == "steps " else "  RAW TOO FEW"
        print(f"{raw:4d} {claims[family]:6d}  {uniform}  {family}{marks}")
    print(f"studies with a claim in any of {len(first)} families: {anywhere}")
    print(f"{time.process_time() - started:.0f} s of CPU")


if __name__ == "__main__":
    main()
