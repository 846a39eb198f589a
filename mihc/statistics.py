"""Every test and estimate of mihc, as plain functions of arrays.

One patient is one entry of each array; missing is NaN (or "" for a label) and dropped, listwise. All results are small
frozen records with the same words: statistic, p, estimate, ci_low, ci_high, n, n_events, method, note. What cannot be
estimated is NaN with the reason in `note`; only wrong shapes and impossible values raise. Rules are R 4.2's, named in
each function.

    two groups, several groups, correlation     rank_sum  kruskal  spearman  box_numbers
    proportions and tables                      exact_proportion  wilson_proportion  fisher_exact
    two-stage trials                            simon_two_stage  two_stage_design  two_stage_proportion
    survival                                    kaplan_meier  kaplan_meier_by  follow_up  restricted_mean  log_rank
    hazards                                     cox  cox_model  model_columns (an R formula read)
    how well a marker predicts                  concordance  weighted_auc
    groups by outcome                           slope_change_split  landmark_split  median_time_split
    groups by a marker                          median_split  tertile_split  given_split  cut_split  max_selected
    many tests                                  adjust  westfall_young
    agreement of observers                      kappa  icc
"""

from mihc.estimates.agreement import Kappa, icc, kappa
from mihc.estimates.cutpoints import MaxSelected, log_rank_scores, max_selected
from mihc.estimates.concordances import Concordance, concordance, weighted_auc
from mihc.estimates.durations import RestrictedMean, follow_up, restricted_mean
from mihc.estimates.formulas import ModelColumns, model_columns
from mihc.estimates.hazards import CoxModel, CoxTerm, cox, cox_model
from mihc.estimates.multiplicity import adjust, westfall_young
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
    "Estimate",
    "FisherExact",
    "KaplanMeier",
    "Kappa",
    "LogRank",
    "MaxSelected",
    "ModelColumns",
    "ProportionalHazards",
    "RankSum",
    "RestrictedMean",
    "Split",
    "SurvivalAt",
    "TwoStageDesign",
    "TwoStageProportion",
    "TwoStageSearch",
    "adjust",
    "box_numbers",
    "concordance",
    "cox",
    "cox_model",
    "cut_split",
    "exact_proportion",
    "fisher_exact",
    "follow_up",
    "given_split",
    "icc",
    "kaplan_meier",
    "kaplan_meier_by",
    "kappa",
    "kruskal",
    "landmark_split",
    "log_rank",
    "log_rank_scores",
    "max_selected",
    "median_split",
    "median_time_split",
    "model_columns",
    "rank_sum",
    "restricted_mean",
    "simon_two_stage",
    "slope_change_split",
    "spearman",
    "tertile_split",
    "two_stage_design",
    "two_stage_proportion",
    "weighted_auc",
    "westfall_young",
    "wilson_proportion",
]
