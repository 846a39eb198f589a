"""Tests that stand from the last run: the table is the one that is made anew, and only what changed is computed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import mihc.associate as made
from mihc.associate import Kept, associate, dropout_table, fingerprints, kept_rows
from mihc.associations import marker_rows
from mihc.store import csv_text, read_csv, write_csv
from mihc.studies.settings import Outcome, Response, Settings, Splits, StudyInfo

MARKERS = ["CD20|tumour|density_per_mm2", "CD20|all|positivity_percent", "a|b|stroma|density_per_mm2", "CPS"]
SETTINGS = Settings(
    StudyInfo("kept"),
    outcomes={"PFS": Outcome("pfs", "pfs_event"), "OS": Outcome("os", "os_event")},
    responses={"ORR": Response("best", ("CR", "PR"))},
    groups=("signature",),
    cox_covariates=("ecog",),
    splits=Splits(outcome=("median",), marker=("median",), given={}),
)


def cohort(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = 30  # fewer are nearly separated by a covariate, whose limits take seconds
    table = {"patient": [f"P{k:02}" for k in range(n)], "slides": "S"}
    table |= {name: np.where(rng.random(n) < 0.1, np.nan, np.round(rng.lognormal(2, 1, n), 3)) for name in MARKERS}
    for name in ("pfs", "os"):
        table[name], table[f"{name}_event"] = np.round(rng.exponential(9, n) + 0.1, 2), (rng.random(n) < 0.8) * 1.0
    table |= {"best": rng.choice(["CR", "SD", "PD"], n), "signature": rng.choice(["a", "b"], n)}
    return pd.DataFrame(table | {"ecog": rng.integers(0, 2, n).astype(str)})


@pytest.mark.parametrize("changed", [[], MARKERS[:1], MARKERS[1:], ["os"], ["signature", MARKERS[2]]], ids=len)
def test_what_stands_and_what_is_made_anew_are_together_what_is_made_at_once(tmp_path, changed):
    before, now = cohort(3), cohort(3)
    for name in changed:
        now.loc[3, name] = "a" if name == "signature" else 77.5
    path = tmp_path / "statistics.csv"
    write_csv(path, associate(before, SETTINGS))
    kept = kept_rows(fingerprints(before), read_csv(path), fingerprints(now))
    assert csv_text(associate(now, SETTINGS, kept=kept)) == csv_text(associate(now, SETTINGS))


@pytest.mark.parametrize(("changed", "anew"), [([], 0), (MARKERS[:1], 1), (["os"], 4), (["ecog"], 4)])
def test_only_what_changed_is_computed(tmp_path, monkeypatch, changed, anew):
    before, now = cohort(1), cohort(1)
    for name in changed:
        now.loc[3, name] = "1" if name == "ecog" and now.loc[3, name] == "0" else "0" if name == "ecog" else 77.5
    write_csv(tmp_path / "statistics.csv", associate(before, SETTINGS))
    kept = kept_rows(fingerprints(before), read_csv(tmp_path / "statistics.csv"), fingerprints(now))
    asked = []
    plain = made.markers_between_groups
    monkeypatch.setattr(made, "markers_between_groups", lambda *of: asked.append(of[1]) or plain(*of))
    associate(now, SETTINGS, kept=kept)
    assert len(asked) == anew


@pytest.mark.parametrize("split", [("median",), ("tertiles", "median"), ("given", "maxstat", "median")])
def test_groups_of_the_same_patients_stand_though_they_are_cut_elsewhere(tmp_path, monkeypatch, split):
    """All values of two markers move a little; only where a patient changes sides groups are compared anew."""
    settings = replace(SETTINGS, splits=Splits(outcome=("none",), marker=split, given={MARKERS[0]: 7.0}))
    before, now = cohort(4), cohort(4)
    for name in MARKERS[:2]:
        now[name] *= 1.001
    middle = now[MARKERS[1]].sub(now[MARKERS[1]].median()).abs().sort_values().index
    now.loc[middle[:2], MARKERS[1]] *= [3.0, 0.3]
    first = Kept()
    path = tmp_path / "statistics.csv"
    write_csv(path, associate(before, settings, kept=first))
    second = kept_rows(fingerprints(before), read_csv(path), fingerprints(now), json.loads(json.dumps(first.groups)))
    compared = []
    plain = marker_rows.group_survival_rows
    monkeypatch.setattr(
        marker_rows, "group_survival_rows", lambda *of, **more: compared.append(more["marker"]) or plain(*of, **more)
    )
    found = associate(now, settings, kept=second)
    assert {marker.column for marker in compared} == {MARKERS[1]}
    anew = Kept()
    assert csv_text(found) == csv_text(associate(now, settings, kept=anew)) and second.groups == anew.groups
    assert set(first.groups) == set(anew.groups)


@pytest.mark.parametrize("changed", [[], MARKERS[:1], MARKERS])
def test_dropout_that_stands_and_that_is_made_anew_are_what_is_made_at_once(tmp_path, changed):
    before, now = cohort(5), cohort(5)
    now.loc[3, changed] = 77.5
    write_csv(tmp_path / "dropout.csv", dropout_table(before, SETTINGS))
    table = read_csv(tmp_path / "dropout.csv", text=["warning"])
    unchanged = set(MARKERS) - set(changed)
    kept = dropout_table(now, SETTINGS, before=table, unchanged=unchanged)
    assert csv_text(kept) == csv_text(dropout_table(now, SETTINGS))
    told = table.assign(estimate=9.5)  # what stands is not made again
    stood = dropout_table(now, SETTINGS, before=told, unchanged=unchanged)["estimate"] == 9.5
    assert stood.sum() == 2 * len(unchanged)


def test_the_ends_of_intervals_are_read_by_no_test_and_change_none():
    before = cohort(2).assign(**{f"{MARKERS[0]}_low": 1.0, f"{MARKERS[0]}_high": 9.0, "CPS_low": 0.5})
    now = before.assign(**{f"{MARKERS[0]}_high": 8.0, "CPS_low": 0.4})
    assert csv_text(associate(before, SETTINGS)) == csv_text(associate(now, SETTINGS))
    assert fingerprints(before) == fingerprints(now)


def test_other_columns_are_no_longer_kept():
    before, now = cohort(2), cohort(2).drop(columns=MARKERS[0])
    kept = kept_rows(fingerprints(before), associate(before, SETTINGS), fingerprints(now))
    assert kept.unchanged == set(MARKERS[1:])
    assert csv_text(associate(now, SETTINGS, kept=kept)) == csv_text(associate(now, SETTINGS))
