"""Every test and estimate of mihc, as plain functions of arrays.

One patient is one entry of each array; missing is NaN (or "" for a label) and dropped, listwise. All results are small
frozen records with the same words: statistic, p, estimate, ci_low, ci_high, n, n_events, method, note. What cannot be
estimated is NaN with the reason in `note`; only wrong shapes and impossible values raise. Rules are R 4.2's, named in
each function.

    two groups, several groups, correlation     rank_sum  kruskal  spearman  box_numbers
    proportions and tables                      exact_proportion  wilson_proportion  fisher_exact
    two-stage trials                            simon_two_stage  two_stage_design  two_stage_proportion
    survival                                    kaplan_meier  kaplan_meier_by  follow_up  restricted_mean
    survival of groups                          log_rank  log_rank_permuted
    hazards                                     cox  cox_model  model_columns (an R formula read)
    how well a marker predicts                  concordance  weighted_auc
    groups by outcome                           slope_change_split  landmark_split  median_time_split
    every rule for cutting times, and its luck  time_cuts  time_cut  bootstrap_cut
    groups by a marker                          median_split  tertile_split  given_split  cut_split  max_selected
    many tests, and what they could find        adjust  westfall_young  detectable_effect
    one test on many columns at once            cox_each  rank_sum_each
    counts of cells                             positivity_percent  density_per_mm2  pdl1_ratios
    agreement of observers                      kappa  kappa_of_counts  icc
"""

from mihc.estimates.agreement import Kappa, icc, kappa, kappa_of_counts
from mihc.estimates.concordances import Concordance, concordance
from mihc.estimates.counts import Pdl1Ratios, density_per_mm2, pdl1_ratios, positivity_percent
from mihc.estimates.cutpoints import MaxSelected, log_rank_scores, max_selected
from mihc.estimates.discrimination import weighted_auc
from mihc.estimates.durations import RestrictedMean, follow_up, restricted_mean
from mihc.estimates.formulas import ModelColumns, model_columns
from mihc.estimates.hazards import CoxModel, CoxTerm, cox, cox_model
from mihc.estimates.many import ManyHazards, ManyRankSums, cox_each, rank_sum_each
from mihc.estimates.multiplicity import adjust, westfall_young
from mihc.estimates.permuted_survival import log_rank_permuted
from mihc.estimates.power import detectable_effect
from mihc.estimates.proportionality import ProportionalHazards
from mihc.estimates.proportions import FisherExact, exact_proportion, fisher_exact, wilson_proportion
from mihc.estimates.ranks import Box, RankSum, box_numbers, kruskal, rank_sum, spearman
from mihc.estimates.records import ChiSquared, Estimate
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
from mihc.estimates.survival import KaplanMeier, LogRank, SurvivalAt, kaplan_meier, kaplan_meier_by, log_rank
from mihc.estimates.time_cuts import CutBootstrap, TimeCut, bootstrap_cut, time_cut, time_cuts
from mihc.estimates.time_lines import smallest_group, straight_line_residual
from mihc.estimates.two_stages import (
    TwoStageDesign,
    TwoStageProportion,
    TwoStageSearch,
    simon_two_stage,
    two_stage_design,
    two_stage_proportion,
)

__all__ = [
    "Box",
    "ChiSquared",
    "Concordance",
    "CoxModel",
    "CoxTerm",
    "CutBootstrap",
    "Estimate",
    "FisherExact",
    "KaplanMeier",
    "Kappa",
    "LogRank",
    "ManyHazards",
    "ManyRankSums",
    "MaxSelected",
    "ModelColumns",
    "Pdl1Ratios",
    "ProportionalHazards",
    "RankSum",
    "RestrictedMean",
    "Split",
    "SurvivalAt",
    "TimeCut",
    "TwoStageDesign",
    "TwoStageProportion",
    "TwoStageSearch",
    "adjust",
    "bootstrap_cut",
    "box_numbers",
    "concordance",
    "cox",
    "cox_each",
    "cox_model",
    "cut_split",
    "density_per_mm2",
    "detectable_effect",
    "exact_proportion",
    "fisher_exact",
    "follow_up",
    "given_split",
    "icc",
    "kaplan_meier",
    "kaplan_meier_by",
    "kappa",
    "kappa_of_counts",
    "kruskal",
    "landmark_split",
    "log_rank",
    "log_rank_permuted",
    "log_rank_scores",
    "max_selected",
    "median_split",
    "median_time_split",
    "model_columns",
    "pdl1_ratios",
    "positivity_percent",
    "rank_sum",
    "rank_sum_each",
    "restricted_mean",
    "simon_two_stage",
    "slope_change_split",
    "smallest_group",
    "spearman",
    "straight_line_residual",
    "tertile_split",
    "time_cut",
    "time_cuts",
    "two_stage_design",
    "two_stage_proportion",
    "weighted_auc",
    "westfall_young",
    "wilson_proportion",
]
