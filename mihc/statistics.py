"""Every test and estimate of mihc, as plain functions of arrays.

One patient is one entry of each array; missing is NaN (or "" for a label) and dropped, listwise. All results are small
frozen records with the same words: statistic, p, estimate, ci_low, ci_high, n, n_events, method, note. What cannot be
estimated is NaN with the reason in `note`; only wrong shapes and impossible values raise. Rules are R 4.2's, named in
each function.

    two groups, several groups, correlation     rank_sum  kruskal  spearman  box_numbers
    proportions and tables                      exact_proportion  fisher_exact
    survival                                    kaplan_meier  log_rank  cox
    groups by outcome                           slope_change_split  landmark_split  median_time_split  weighted_auc
    every rule for cutting times, and its luck  time_cuts  time_cut  bootstrap_cut
    groups by a marker                          median_split  tertile_split  given_split  cut_split  max_selected
    many tests, and what they could find        adjust  detectable_effect
    one test on many columns at once            cox_each  rank_sum_each
"""

from mihc.estimates.cutpoints import MaxSelected, max_selected
from mihc.estimates.discrimination import weighted_auc
from mihc.estimates.hazards import CoxTerm, cox
from mihc.estimates.many import ManyHazards, ManyRankSums, cox_each, rank_sum_each
from mihc.estimates.multiplicity import adjust
from mihc.estimates.power import detectable_effect
from mihc.estimates.proportions import exact_proportion, fisher_exact
from mihc.estimates.ranks import Box, RankSum, box_numbers, kruskal, rank_sum, spearman
from mihc.estimates.records import Estimate
from mihc.estimates.splits import (
    Split,
    cut_split,
    given_split,
    landmark_split,
    median_split,
    median_time_split,
    slope_change_split,
    tertile_split,
)
from mihc.estimates.survival import KaplanMeier, LogRank, kaplan_meier, log_rank
from mihc.estimates.time_cuts import CutBootstrap, TimeCut, bootstrap_cut, time_cut, time_cuts

__all__ = [
    "Box",
    "CoxTerm",
    "CutBootstrap",
    "Estimate",
    "KaplanMeier",
    "LogRank",
    "ManyHazards",
    "ManyRankSums",
    "MaxSelected",
    "RankSum",
    "Split",
    "TimeCut",
    "adjust",
    "bootstrap_cut",
    "box_numbers",
    "cox",
    "cox_each",
    "cut_split",
    "detectable_effect",
    "exact_proportion",
    "fisher_exact",
    "given_split",
    "kaplan_meier",
    "kruskal",
    "landmark_split",
    "log_rank",
    "max_selected",
    "median_split",
    "median_time_split",
    "rank_sum",
    "rank_sum_each",
    "slope_change_split",
    "spearman",
    "tertile_split",
    "time_cut",
    "time_cuts",
    "weighted_auc",
]
