"""
Planted mistakes in the core algorithms: each must make a test fail. Run it with `make mutants`.

    python tests/mutants.py [--only WORD] [--jobs N] [--list]

For each mutant the package is copied to a temporary folder, one text is replaced there, and the named tests run
against the copy. A mutant that no test notices is a survivor: write the missing test. Pytest does not collect this
file, and CI does not run it.
"""
# ruff: noqa: T201, a script prints its results

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from repository import ROOT, SOURCE, TESTS

TIMEOUT_S = 600.0
"""A mutant that loops for so long is noticed."""


@dataclass(frozen=True)
class Mutant:
    """One planted mistake."""

    file: str
    """Below src/tesela."""
    old: str
    """Text that stands there exactly once."""
    new: str
    breaks: str
    """What is wrong then."""
    tests: tuple[str, ...]
    """Node ids below tests/ of which one at least must fail."""


def mutant(file: str, old: str, new: str, breaks: str, *tests: str) -> Mutant:
    return Mutant(file, old, new, breaks, tests)


SENTINEL, MOSAIC, SENSORS = "sources/test_sentinel2.py", "sources/test_mosaic.py", "sources/test_sensors.py"
MODIS, TERRAIN = "sources/test_modis.py", "sources/test_ancillary.py"
LABELS, FRACTIONS, SIOSE = "labels/test_labels.py", "labels/test_fractions.py", "labels/test_siose.py"
CORE, IO = "core/test_core.py", "io/test_io.py"
SPLITS, PIXELS, PATCHES = "patches/test_splits.py", "patches/test_pixels.py", "patches/test_patches.py"
MAPPING, SCALING, CASCADE = "mapping/test_mapping.py", "mapping/test_scaling.py", "mapping/test_cascade.py"
UNIT, WIDTH, GENERALISE = (
    "generalise/test_mapping_unit.py",
    "generalise/test_width.py",
    "generalise/test_generalise.py",
)
ASSESSMENT, PAGE = "assessment/test_assessment.py", "assessment/test_page.py"
BORDERS, CALIBRATION = "assessment/test_borders.py", "assessment/test_calibration.py"
ESTIMATES, SAMPLING, AGREEMENT = (
    "sampling/test_estimates.py",
    "sampling/test_sampling.py",
    "sampling/test_agreement.py",
)
ACCOUNTING, CHANGES, TABLE41 = (
    "accounting/test_accounting.py",
    "accounting/test_changes.py",
    "accounting/test_table41.py",
)
COMPARE, RANKING = "comparison/test_compare.py", "chains/test_label_ranking.py"
MODELS, UNMIXING, LOSSES = (
    "models/test_models.py",
    "models/test_unmixing_models.py",
    "training/segmentation/test_losses.py",
)
UNMIXING_TRAINING = "training/unmixing/test_unmixing_training.py"

MUTANTS = (
    # the nine planted mistakes that no test had seen
    mutant(
        "mapping/reading.py",
        "standardisation.factors(scale, offset)",
        "standardisation.factors(scale * 0 + 1, offset * 0)",
        "scale and offset of a file are ignored in prediction",
        SCALING,
    ),
    mutant(
        "assessment/document.py",
        "in_reference, in_map = areas_ha.sum(axis=1), areas_ha.sum(axis=0)",
        "in_reference, in_map = areas_ha.sum(axis=0), areas_ha.sum(axis=1)",
        "hectares of reference and map are swapped in the JSON",
        f"{PAGE}::test_the_document_has_pixels_and_areas_of_reference_and_map",
    ),
    mutant(
        "assessment/templates/report.html.j2",
        "<td>{{ row.reference_ha | ha }}</td><td>{{ row.map_ha | ha }}</td>",
        "<td>{{ row.map_ha | ha }}</td><td>{{ row.reference_ha | ha }}</td>",
        "hectares of reference and map are swapped on the page",
        f"{PAGE}::test_the_page_shows_the_areas_of_reference_and_map",
    ),
    mutant(
        "training/unmixing/loop.py",
        "predict_split(network, source, VAL)",
        "predict_split(network, source, TRAIN)",
        "unmixing weights are chosen on training pixels",
        UNMIXING_TRAINING,
    ),
    mutant(
        "chains/label_ranking.py",
        "    splits[fold < 0] = NONE\n",
        "",
        "label ranking trains on patches that touch the predicted fold",
        f"{RANKING}::test_no_model_trains_or_validates_on_pixels_that_it_predicts",
    ),
    mutant(
        "comparison/significance.py",
        "2 * (int(tail) + 1)",
        "(int(tail) + 1)",
        "p-values are halved",
        f"{COMPARE}::test_a_difference_that_cancels_has_no_significance",
    ),
    mutant(
        "assessment/calibration.py",
        "if confidence[i, j] > 100:",
        "if confidence[i, j] >= 100:",
        "a confidence of 100 % counts as unknown",
        f"{PAGE}::test_a_confidence_of_100_percent_is_a_confidence",
    ),
    mutant(
        "mapping/predict.py",
        "PIXEL_RATIO = 1.5",
        "PIXEL_RATIO = 2.0",
        "pixels twice as large as in training are accepted",
        f"{MAPPING}::test_pixels_may_be_half_as_large_again_as_in_training",
    ),
    mutant(
        "patches/split.py",
        "    splits = separate_splits(footprints, splits, buffer_m=buffer_m)",
        "    splits = separate_splits(footprints, splits, buffer_m=0.0)",
        "the buffer of a split is ignored",
        f"{SPLITS}::test_every_kind_of_split_keeps_the_buffer",
    ),
    mutant(
        "patches/balance.py",
        'for index in np.argsort(numbers - wanted, kind="stable")[: count - numbers.sum()]:',
        "for index in range(count - numbers.sum()):",
        "fractions are not rounded by largest remainder",
        f"{SPLITS}::test_fractions_become_whole_numbers_by_largest_remainder",
    ),
    # reading and patches
    mutant(
        "io/abundance.py",
        'order = np.argsort(whole - steps, axis=0, kind="stable")',
        'order = np.argsort(steps - whole, axis=0, kind="stable")',
        "abundances are rounded by smallest remainder",
        f"{FRACTIONS}::test_the_largest_remainders_are_rounded_up",
    ),
    mutant(
        "core/standardisation.py",
        "((offset - mean) / std)",
        "((mean - offset) / std)",
        "bands are shifted the wrong way",
        SCALING,
    ),
    mutant(
        "patches/dataset.py",
        "complete(image[:, inner, inner]).any(axis=0)] = IGNORE",
        "complete(image[:, inner, inner]).all(axis=0) & False] = IGNORE",
        "pixels without data keep their label",
        f"{PATCHES}::test_a_patch_is_its_window_standardised_with_labels_as_positions",
    ),
    mutant(
        "patches/dataset.py",
        "(own - mean) ** 2 * count * n / total",
        "(own - mean) ** 2",
        "the deviation of bands forgets how much was counted",
        f"{PATCHES}::test_statistics_are_those_of_all_valid_pixels",
    ),
    mutant(
        "patches/areas.py",
        "single = seen.sum(axis=1) == 1",
        "single = seen.sum(axis=1) >= 1",
        "patches that touch two splits are used",
        f"{SPLITS}::test_no_area_is_in_two_splits",
        f"{SPLITS}::test_patches_on_the_border_of_two_regions_or_without_region_are_left_out",
    ),
    mutant(
        "patches/pixel_split.py",
        "[table.rows, table.cols] < buffer_m",
        "[table.rows, table.cols] < 0",
        "the buffer between blocks of pixels is ignored",
        f"{PIXELS}::test_no_block_is_in_two_splits_and_the_buffer_holds",
        f"{PIXELS}::test_a_buffer_removes_pixels_of_the_earlier_split_only",
    ),
    mutant(
        "patches/label_quality.py",
        "above = pieces.probabilities - usual_confidence(pieces)",
        "above = pieces.probabilities.copy()",
        "the usual confidence of a class is left out of the likelihood of error",
        f"{RANKING}::test_the_likelihood_of_error_is_relative_to_the_usual_confidence_in_a_class",
    ),
    # mapping and cascades
    mutant(
        "mapping/windows.py",
        "start + margin if index else 0",
        "start if index else 0",
        "neighbouring windows keep the same pixels",
        f"{MAPPING}::test_windows_keep_every_pixel_once_and_start_at_multiples_of_the_stride",
    ),
    mutant(
        "mapping/windows.py",
        "margin = math.ceil(2 * margin_px / multiple_px) * multiple_px // 2",
        "margin = margin_px",
        "windows do not start at multiples of the stride",
        f"{MAPPING}::test_windows_keep_every_pixel_once_and_start_at_multiples_of_the_stride",
    ),
    mutant(
        "mapping/augmentation.py",
        "total = total + np.rot90(p, -rotation, axes=(1, 2))",
        "total = total + np.rot90(p, rotation, axes=(1, 2))",
        "rotated windows are not turned back",
        "mapping/test_engines.py::test_augmentation_is_the_mean_probability_of_the_eight_flips_and_rotations",
    ),
    mutant(
        "mapping/kernels.py",
        "best = k if more else best",
        "best = k if not more else best",
        "the map shows classes that are not the best",
        f"{MAPPING}::test_bands_are_taken_by_name_in_any_order",
        f"{MAPPING}::test_the_map_equals_the_network_applied_to_the_whole_array_at_any_size",
    ),
    mutant(
        "mapping/kernels.py",
        "confidence[i, j] /= total",
        "confidence[i, j] = 1 / total",
        "the confidence of a cascade forgets the expert above",
        f"{CASCADE}::test_confidence_is_the_product_of_the_probabilities_on_the_way",
    ),
    mutant(
        "mapping/kernels.py",
        "elif share > confidence[i, j]:",
        "elif share >= 0:",
        "soft cascades take the last class, not the most probable",
        f"{CASCADE}::test_soft_mode_takes_the_most_probable_product",
    ),
    mutant(
        "mapping/cascade_runner.py",
        "mask &= state.confidence[here] >= member.gate.min_confidence",
        "mask &= state.confidence[here] < member.gate.min_confidence",
        "gates open where the expert above is unsure",
        f"{CASCADE}::test_a_cascade_equals_its_gates_applied_afterwards",
    ),
    # generalisation
    mutant(
        "generalise/merging.py",
        "small = regions.size[x] < rules.unit",
        "small = regions.size[x] + 1 < rules.unit",
        "areas just under the unit stay",
        f"{UNIT}::test_an_area_under_the_unit_goes_to_the_longest_shared_border",
        f"{UNIT}::test_no_interior_area_is_left_under_the_unit",
    ),
    mutant(
        "generalise/merging.py",
        "longer = around.length[kind] > around.length[best]",
        "longer = around.length[kind] < around.length[best]",
        "areas go to the shortest border",
        f"{UNIT}::test_an_area_under_the_unit_goes_to_the_longest_shared_border",
    ),
    mutant(
        "generalise/merging.py",
        "if k == 0 or rank < best_rank or",
        "if k == 0 or rank > best_rank or",
        "the priority table is turned upside down",
        f"{UNIT}::test_priority_goes_before_the_longest_border",
    ),
    mutant(
        "generalise/merging.py",
        "not (rules.keep_cut and regions.flags[x] != 0)",
        "not rules.keep_cut",
        "all areas are kept as if the edge cut them",
        f"{UNIT}::test_an_area_under_the_unit_goes_to_the_longest_shared_border",
    ),
    mutant(
        "generalise/opening.py",
        "return max(1, math.ceil(self.width_px - 1e-6))",
        "return max(1, math.floor(self.width_px - 1e-6))",
        "parts one pixel narrower than the width stay",
        f"{WIDTH}::test_the_disc_is_as_wide_as_the_width_and_round",
    ),
    mutant(
        "generalise/width.py",
        "given = np.where(still_narrow, window.values, given)",
        "given = np.where(still_narrow, given, given)",
        "pixels move to where they are narrow too",
        f"{GENERALISE}::test_a_settled_map_is_not_changed_again",
        f"{WIDTH}::test_a_strip_between_two_areas_is_shared_along_its_middle",
        f"{GENERALISE}::test_a_map_keeps_unit_and_width_and_the_log_explains_every_pixel",
    ),
    # assessment
    mutant(
        "assessment/confusion.py",
        "part[:-2, -2], part[-2, :-2]",
        "part[-2, :-2], part[:-2, -2]",
        "pixels without a class in map and reference are swapped",
        f"{ASSESSMENT}::test_a_matrix_counted_by_hand",
    ),
    mutant(
        "assessment/confusion.py",
        "for i in range(whole, rows.size):",
        "for i in range(rows.size, rows.size):",
        "the last pixels are not counted",
        f"{ASSESSMENT}::test_no_pixel_is_lost",
    ),
    mutant(
        "assessment/scores.py",
        "_ratio(correct, reference + predicted - correct,",
        "_ratio(correct, reference + predicted,",
        "the union of IoU counts the intersection twice",
        f"{ASSESSMENT}::test_scores_computed_by_hand",
    ),
    mutant(
        "assessment/scores.py",
        "return _ratio(correct, predicted, present",
        "return _ratio(correct, reference, present",
        "precision is recall",
        f"{ASSESSMENT}::test_scores_computed_by_hand",
    ),
    mutant(
        "assessment/scores.py",
        "present = values[~np.isnan(values)]",
        "present = values[values > 0]",
        "classes that were never right are left out of the means",
        f"{ASSESSMENT}::test_a_class_never_mapped_or_invented_counts_as_zero",
    ),
    mutant(
        "assessment/borders.py",
        "- 0.5) ** 2).astype(np.uint16)",
        "+ 0.5) ** 2).astype(np.uint16)",
        "distances from borders are a pixel too short",
        f"{BORDERS}::test_pixels_along_a_straight_border_are_binned_by_their_distance",
    ),
    mutant(
        "assessment/calibration.py",
        "np.maximum(-(-percent * count // 100) - 1, 0)",
        "np.minimum(percent * count // 100, count - 1)",
        "bins of confidence end before their upper edge",
        f"{CALIBRATION}::test_bins_end_with_their_upper_edge",
    ),
    mutant(
        "assessment/calibration.py",
        "self.counts.sum(axis=1)[:, ::-1]",
        "self.counts.sum(axis=1)",
        "the least confident pixels are taken for the most confident",
        f"{CALIBRATION}::test_a_calibration_counted_by_hand",
    ),
    # sampling
    mutant(
        "sampling/estimators.py",
        "np.clip(1 - drawn / np.maximum(sizes_px, 1), 0, 1)",
        "np.ones_like(drawn)",
        "the finite population correction is left out",
        f"{ESTIMATES}::test_stehman_2014_with_strata_that_are_not_classes_is_reproduced_to_the_digit",
        f"{ESTIMATES}::test_a_census_has_no_error",
    ),
    mutant(
        "sampling/estimators.py",
        "- 2 * r * (cells @ (x * y))",
        "+ 2 * r * (cells @ (x * y))",
        "the covariance of ratios has the wrong sign",
        f"{ESTIMATES}::test_olofsson_2014_is_reproduced_to_the_digit",
    ),
    mutant(
        "sampling/estimators.py",
        "drawn / np.maximum(drawn - 1, 1)",
        "drawn / np.maximum(drawn, 1)",
        "variances are divided by n, not by n - 1",
        f"{ESTIMATES}::test_olofsson_2014_is_reproduced_to_the_digit",
    ),
    mutant(
        "sampling/estimators.py",
        "step = Z_95 * np.where(inside, errors, 0) / (v * (1 - v))",
        "step = Z_95 * np.where(inside, errors, 0)",
        "logit intervals are far too short",
        f"{ESTIMATES}::test_intervals_cover_the_truth_in_93_to_97_of_100_draws",
    ),
    mutant(
        "sampling/design.py",
        'order = np.argsort(allocated - quota, kind="stable")',
        'order = np.argsort(quota - allocated, kind="stable")',
        "points left over go to the smallest remainders",
        f"{SAMPLING}::test_the_largest_remainders_get_the_points_that_are_left",
        f"{SAMPLING}::test_the_published_sample_size_and_allocation_are_reproduced",
        f"{SAMPLING}::test_each_rule_allocates_points_as_documented",
    ),
    mutant(
        "sampling/design.py",
        "quota_weights * np.sqrt(expected * (1 - expected))",
        "quota_weights * expected * (1 - expected)",
        "Neyman's rule uses the variance, not the deviation",
        f"{SAMPLING}::test_each_rule_allocates_points_as_documented",
    ),
    mutant(
        "sampling/agreement.py",
        ".sum(axis=(1, 2)) * (total - 1), (expected",
        ".sum(axis=(1, 2)) * total, (expected",
        "alpha is not corrected for small samples",
        f"{AGREEMENT}::test_alpha_of_two_people_by_hand",
    ),
    mutant(
        "sampling/agreement.py",
        '"linear": lambda steps: steps,',
        '"linear": np.square,',
        "linear weights of kappa are quadratic",
        f"{AGREEMENT}::test_weighted_kappa_by_hand",
    ),
    # accounting
    mutant(
        "accounting/trajectories.py",
        "(1 - part) * self.mapped_areas_ha[i] + part * self.mapped_areas_ha[i + 1]",
        "part * self.mapped_areas_ha[i] + (1 - part) * self.mapped_areas_ha[i + 1]",
        "areas between two maps run backwards",
        f"{ACCOUNTING}::test_rows_and_columns_add_up_and_years_follow_each_other",
        f"{ACCOUNTING}::test_the_account_of_a_known_region_has_its_areas_and_changes",
    ),
    mutant(
        "accounting/trajectories.py",
        "annual = self.changes_ha(i) / (self.years[i + 1] - self.years[i])",
        "annual = self.changes_ha(i) / 1",
        "changes are not spread over the years",
        f"{ACCOUNTING}::test_rows_and_columns_add_up_and_years_follow_each_other",
        f"{ACCOUNTING}::test_the_account_of_a_known_region_has_its_areas_and_changes",
    ),
    mutant(
        "accounting/trajectories.py",
        "back = (first == last) & (first != middle)",
        "back = first != middle",
        "all changes are reported as flip-flops",
        f"{ACCOUNTING}::test_only_areas_that_change_back_are_flip_flops_and_the_largest_is_first",
        f"{ACCOUNTING}::test_planted_mistakes_in_maps_are_all_detected",
        f"{ACCOUNTING}::test_the_account_of_a_known_region_has_its_areas_and_changes",
    ),
    mutant(
        "accounting/cohorts.py",
        "if year - when >= self.transition_years]",
        "if year - when > self.transition_years]",
        "land remains a year too late",
        f"{ACCOUNTING}::test_converted_land_remains_after_20_years",
        f"{ACCOUNTING}::test_cohorts_contain_all_land_in_all_years",
    ),
    mutant(
        "accounting/table41.py",
        "initial[positions] = trajectories.areas_ha(year - 1) / _HA_PER_KHA",
        "initial[positions] = trajectories.areas_ha(year) / _HA_PER_KHA",
        "the initial area of Table 4.1 is that of the end of the year",
        f"{TABLE41}::test_the_workbook_has_the_layout_of_table_41_and_its_sums_are_right",
        f"{ACCOUNTING}::test_rows_and_columns_add_up_and_years_follow_each_other",
    ),
    mutant(
        "accounting/table41.py",
        "numeric = [row[j] for j in unmanaged if not isinstance(row[j], str)]",
        "numeric = []",
        "total unmanaged land is a notation key where there is some",
        f"{TABLE41}::test_all_unmanaged_land_of_a_row_is_added_up",
    ),
    mutant(
        "accounting/change_uncertainty.py",
        "np.fill_diagonal(shown, (1 - model.persistence) * stable)",
        "np.fill_diagonal(shown, stable)",
        "stable land is counted twice in simulated changes",
        f"{CHANGES}::test_simulated_changes_keep_the_total_area",
    ),
    # unmixing and training
    mutant(
        "models/mixing.py",
        "        if constrained:\n",
        "        if not constrained:\n",
        "the sum of shares constrains the wrong method",
        f"{UNMIXING}::test_the_sum_constrains_the_fit_of_fclsu_only",
    ),
    mutant(
        "training/unmixing/calibration.py",
        "val = np.flatnonzero(table.splits == VAL)",
        "val = np.flatnonzero(table.splits != VAL)",
        "the variance is calibrated on training pixels",
        f"{UNMIXING}::test_on_validation_pixels_errors_are_as_large_as_the_claimed_deviation",
    ),
    mutant(
        "training/unmixing/calibration.py",
        "error, scales = ((t - m) ** 2).mean()",
        "error, scales = np.abs(t - m).mean()",
        "the variance is fitted to absolute errors",
        f"{UNMIXING}::test_a_known_variance_is_recovered",
    ),
    mutant(
        "training/unmixing/loop.py",
        "loss = loss + settings.parent_weight * part",
        "loss = loss + part",
        "the weight of the level above is ignored in the loss",
        UNMIXING_TRAINING,
    ),
    mutant(
        "training/unmixing/loop.py",
        "error = ((output.rebuilt - values) * mask)[labelled]",
        "error = (output.rebuilt - values)[labelled]",
        "gaps count in the loss of the endmember decoder",
        UNMIXING_TRAINING,
    ),
    mutant(
        "training/unmixing/loop.py",
        "shares, wanted = output.shares[labelled], targets[labelled]",
        "shares, wanted = output.shares, targets",
        "pixels of other splits count in the loss",
        UNMIXING_TRAINING,
    ),
    mutant(
        "training/unmixing/loop.py",
        "larger_is_better=False",
        "larger_is_better=True",
        "the weights of the largest error are kept",
        UNMIXING_TRAINING,
    ),
    mutant(
        "training/segmentation/losses.py",
        "part = valid.float()  # (b, r, k)",
        "part = torch.ones_like(valid.float())",
        "pixels without a label count in the loss",
        f"{LOSSES}::test_a_perfect_prediction_has_no_loss_and_ignored_pixels_no_gradient",
        f"{LOSSES}::test_cross_entropy_is_torchs_where_both_say_the_same",
    ),
    mutant(
        "training/segmentation/pool.py",
        "used = (best > 0).mean(0) >= LEAST_DRAWS",
        "used = (best > 0).mean(0) >= 0",
        "a useless member stays in the joined expert",
        "training/segmentation/test_choices.py::test_a_useless_member_gets_no_weight",
    ),
    mutant(
        "training/segmentation/validation.py",
        "chosen = [PRIORS[item] for item in np.flatnonzero(good)]",
        "chosen = [*PRIORS]",
        "the prior is always the usual one",
        "training/segmentation/test_choices.py::"
        "test_the_prior_is_the_nearest_to_the_usual_that_brings_the_rare_class_back",
    ),
    mutant(
        "training/segmentation/validation.py",
        "good = means >= means[start]",
        "good = means >= means.min()",
        "a strength that is worse than the usual one is taken, where its interval is wide",
        "training/segmentation/test_choices.py::test_a_worse_strength_is_not_taken_for_its_wider_interval",
    ),
    mutant(
        "training/segmentation/validation.py",
        "error_factor(blocks) * leads",
        "2 * leads",
        "a gain in two of four blocks counts as measured",
        "training/segmentation/test_choices.py::test_a_gain_in_half_of_the_blocks_is_measured_by_many_only",
    ),
    mutant(
        "patches/overlap.py",
        "int(np.minimum(np.diff(starts), size_px).sum())",
        "int(np.diff(starts).sum())",
        "the gap between patches of a strip counts as covered",
        "patches/test_patches.py::test_a_covered_pixel_is_first_shown_by_one_patch",
    ),
    mutant(
        "training/segmentation/tree_pixels.py",
        "wanted = shown.ravel() & (key < drawn.bound)",
        "wanted = key < drawn.bound",
        "a pixel that several patches show is drawn more than once",
        "training/segmentation/test_trees.py::test_both_splits_count_by_area_when_trained_on_again",
    ),
    mutant(
        "training/segmentation/boosting.py",
        "np.concatenate([item.leaf / np.float32(number) for item in series])",
        "np.concatenate([item.leaf for item in series])",
        "several series of trees add up instead of being averaged",
        "training/segmentation/test_trees.py::test_series_of_trees_are_averaged",
    ),
    # experts
    mutant(
        "models/header.py",
        "if net.classes != len(header.legend):",
        "if False:",
        "an expert may have more classes than its legend",
        f"{MODELS}::test_a_wrong_header_says_what_is_wrong",
    ),
    mutant(
        "models/header.py",
        "min(header.std, default=1) <= 0",
        "min(header.std, default=1) < 0",
        "an expert may divide by a deviation of 0",
        f"{MODELS}::test_a_wrong_header_says_what_is_wrong",
    ),
    mutant(
        "models/header.py",
        "version > FORMAT",
        "version < FORMAT",
        "experts of a newer format are read as they are",
        f"{MODELS}::test_a_wrong_header_says_what_is_wrong",
    ),
    # legend and crosswalk
    mutant(
        "core/legend.py",
        "table[item.value] = self.ancestor(item.code, depth).value",
        "table[item.value] = self[item.code].value",
        "a map at a coarser level keeps its fine values",
        f"{CORE}::test_every_class_lies_in_one_class_of_every_coarser_level",
    ),
    mutant(
        "core/legend.py",
        "table[list(self.values)] = np.arange(len(self.classes), dtype=np.uint8)",
        "table[list(self.values)] = np.arange(1, len(self.classes) + 1, dtype=np.uint8)",
        "positions of classes are one too high",
        f"{CORE}::test_positions_and_values_are_each_others_inverse",
    ),
    mutant(
        "core/crosswalk.py",
        "row.share > best[row.code].share",
        "row.share >= best[row.code].share",
        "of equal shares the last row wins",
        f"{CORE}::test_an_even_split_goes_to_the_first_row",
    ),
    mutant(
        "core/crosswalk.py",
        "abs(total - 1) > 1e-6",
        "total - 1 > 1e-6",
        "shares may sum to less than 1",
        f"{CORE}::test_a_crosswalk_keeps_to_its_legend_and_its_shares_sum_to_one",
    ),
    mutant(
        "core/crosswalk.py",
        "shares[row.code, to] = shares.get((row.code, to), 0.0) + row.share\n",
        "shares[row.code, to] = row.share\n",
        "shares of one coarse class are not added up",
        f"{CORE}::test_a_crosswalk_can_be_cut_at_a_coarser_level",
    ),
    # exact and counted fractions
    mutant(
        "core/coverage.py",
        "right[plane, row, col + 1] += weight * piece",
        "right[plane, row, col + 1] += weight * tall",
        "long edges add too much to the cells on their right",
        f"{FRACTIONS}::test_fractions_equal_the_overlay_of_shapely_on_random_coverages",
    ),
    mutant(
        "core/coverage.py",
        "(twice < 0.0) != hole",
        "(twice < 0.0)",
        "holes are filled or not by the direction of their ring",
        f"{FRACTIONS}::test_a_hole_belongs_to_the_polygon_that_fills_it",
        f"{FRACTIONS}::test_rings_may_run_either_way_and_multipolygons_have_parts",
    ),
    mutant(
        "labels/fractions.py",
        "np.divide(areas, cover, out=shares, where=cover > 0)",
        "np.copyto(shares, areas, where=cover > 0)",
        "shares of partly covered cells do not sum to 1",
        f"{FRACTIONS}::test_a_layer_becomes_an_abundance_map_that_is_read_back",
        f"{FRACTIONS}::test_cells_covered_too_little_have_no_data",
        f"{FRACTIONS}::test_a_crosswalk_shares_out_what_it_splits_and_leaves_out_what_it_drops",
    ),
    mutant(
        "labels/fractions.py",
        "MIN_COVER = 0.5",
        "MIN_COVER = 0.0",
        "cells that are hardly covered get shares",
        f"{FRACTIONS}::test_cells_covered_too_little_have_no_data",
    ),
    mutant(
        "labels/codes.py",
        "weights[number, legend.codes.index(to)] += share",
        "weights[number, legend.codes.index(to)] += 1 / len(mix)",
        "split codes are shared out evenly",
        f"{FRACTIONS}::test_a_crosswalk_shares_out_what_it_splits_and_leaves_out_what_it_drops",
        f"{FRACTIONS}::test_a_crosswalk_splits_the_numbers_of_a_raster_too",
    ),
    mutant(
        "labels/shares.py",
        "left + 0.5 + reach * np.arange(",
        "left + reach * np.arange(",
        "corners of pixels are counted, not centres",
        f"{FRACTIONS}::test_counting_gives_the_share_of_pixels_whose_centre_a_class_holds",
        f"{FRACTIONS}::test_a_raster_is_counted_by_its_pixels_and_split_codes_are_shared_out",
    ),
    mutant(
        "labels/shares.py",
        "return counts / pixels",
        "return counts / pixels.max()",
        "cells with fewer pixels get too small a share",
        f"{FRACTIONS}::test_cells_that_are_no_multiple_of_the_pixels_hold_more_or_fewer_of_them",
    ),
    # labels
    mutant(
        "labels/polygons.py",
        "cols = to_pixel.a * x + to_pixel.b * y + to_pixel.c",
        "cols = to_pixel.a * x + to_pixel.b * y + to_pixel.c + 0.5",
        "labels lie half a pixel to the east",
        f"{LABELS}::test_a_pixel_takes_the_class_of_the_polygon_at_its_centre",
    ),
    mutant(
        "labels/polygons.py",
        "pairs = zip(shapes, values.tolist(), strict=True)",
        "pairs = zip(shapes[::-1], values.tolist()[::-1], strict=True)",
        "of two overlapping polygons the first wins",
        f"{LABELS}::test_the_later_of_two_overlapping_polygons_wins",
    ),
    mutant(
        "labels/polygons.py",
        "return math.sqrt(_ERROR_PX * pixel / curvature) if curvature > 0 else None",
        "return None",
        "long edges stay straight in another projection",
        f"{LABELS}::test_long_edges_are_bent_by_the_projection_as_on_the_globe",
    ),
    mutant(
        "labels/codes.py",
        "if any(way[number] != fitting[0][number] for way in fitting for number in present):",
        "if False:",
        "numbers of an unclear level are read by guess",
        f"{LABELS}::test_a_raster_whose_level_is_not_clear_asks_for_it",
    ),
    mutant(
        "labels/rasters.py",
        "valid = valid & ~np.isnan(numbers)",
        "valid = valid | np.isnan(numbers)",
        "NaN becomes a class",
        f"{LABELS}::test_class_numbers_may_be_stored_as_floats_but_not_be_fractions",
    ),
    mutant(
        "sources/siose/rules.py",
        'codes[dehesa & dense] = "forest"',
        'codes[dehesa & ~dense] = "forest"',
        "open dehesa becomes forest",
        f"{SIOSE}::test_wooded_pasture_is_forest_from_the_least_canopy_on",
    ),
    mutant(
        "sources/siose/rules.py",
        'best["percent"] >= 100 * self.rules.min_share',
        'best["percent"] >= self.rules.min_share',
        "the minimum share of a class is ignored",
        f"{SIOSE}::test_majority_takes_the_largest_cover_and_composite_the_largest_class",
    ),
    mutant(
        "sources/siose/classes.py",
        "area_m2 >= self.classifier.rules.min_area_m2",
        "area_m2 >= 0",
        "the minimum area of polygons is ignored",
        f"{SIOSE}::test_small_and_strange_polygons_are_counted_not_drawn",
    ),
    # mosaics
    mutant(
        "sources/mosaic/compositing.py",
        "held[(n - 1) // 2]",
        "held[n // 2]",
        "the median of an even number is the upper one",
        f"{SENTINEL}::test_the_median_is_taken_by_band_over_what_is_there",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "score[k, row, col] > score[chosen, row, col]",
        "score[k, row, col] < score[chosen, row, col]",
        "the worst pixel is taken as the best",
        f"{SENTINEL}::test_the_best_pixel_has_the_highest_score",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "total[k] < total[chosen]",
        "total[k] > total[chosen]",
        "the medoid is the pixel farthest from the others",
        f"{SENTINEL}::test_the_medoid_is_one_whole_observation",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "np.exp(-0.5 * (days",
        "np.exp(-1.0 * (days",
        "the date counts more than Griffiths' score says",
        f"{SENTINEL}::test_the_best_pixel_has_the_highest_score",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "np.rint(raw * (scale * 10_000) + offset * 10_000)",
        "np.rint(raw * (scale * 10_000))",
        "the offset of a scene is ignored",
        f"{SENTINEL}::test_nodata_is_masked_before_the_offset_is_added",
        f"{SENSORS}::test_a_second_sensor_is_one_class",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "np.rint(raw * (scale * 10_000) + offset * 10_000)",
        "np.rint(raw + offset * 10_000)",
        "the scale of a sensor is ignored",
        f"{SENSORS}::test_a_second_sensor_is_one_class",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "np.where(valid & (raw > 0), np.clip(values, 1, 65_535), 0)",
        "np.where(valid & (raw > 0), np.clip(values, 0, 65_535), 0)",
        "dark pixels become nodata",
        f"{SENTINEL}::test_nodata_is_masked_before_the_offset_is_added",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "(distance_m > buffer_m)",
        "(distance_m > 0)",
        "the buffer around clouds is ignored",
        f"{SENTINEL}::test_the_buffer_reaches_beyond_clouds_but_not_beyond_dark_areas",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "if value in options.masked]",
        "]",
        "a class that is kept still casts a buffer",
        f"{SENSORS}::test_options_are_those_of_the_sensor",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "lacking = (stack == 0).any(axis=1)",
        "lacking = (stack == 0).all(axis=1)",
        "observations that lack a band count",
        f"{MOSAIC}::test_an_observation_that_lacks_a_band_does_not_count",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "new = valid & (source < 0)",
        "new = valid",
        "where two tiles of a pass overlap the last shows",
        f"{MOSAIC}::test_where_two_tiles_of_a_pass_overlap_the_first_gives_the_pixel",
    ),
    mutant(
        "sources/mosaic/scenes.py",
        "_rank(granule) > _rank(held)",
        "_rank(granule) < _rank(held)",
        "the oldest processing of a scene is taken",
        f"{SENTINEL}::test_of_two_processings_the_newer_one_stays",
    ),
    mutant(
        "sources/mosaic/scenes.py",
        "granule.cloud_percent > max_cloud",
        "granule.cloud_percent < max_cloud",
        "clear scenes are left out instead of cloudy ones",
        f"{MOSAIC}::test_cloudy_scenes_are_left_out_with_the_reason",
    ),
    mutant(
        "sources/sentinel2/sensor.py",
        "OFFSET if baseline >= OFFSET_BASELINE else 0.0",
        "OFFSET if baseline > OFFSET_BASELINE else 0.0",
        "baseline 04.00 gets no offset",
        f"{SENTINEL}::test_the_offset_is_read_as_each_provider_states_it",
    ),
    mutant(
        "sources/sentinel2/sensor.py",
        "granule.offset < 0 and low < _TOO_DARK",
        "granule.offset < 0 and low < -1",
        "an offset that was applied twice is not noticed",
        f"{SENTINEL}::test_dark_plants_show_the_right_offset",
    ),
    mutant(
        "sources/sentinel2/sensor.py",
        "masked=(0, 1, 2, 3, 8, 9, 10)",
        "masked=(0, 1, 2, 3, 9, 10)",
        "medium clouds are not masked",
        f"{MOSAIC}::test_pixels_are_the_median_of_clear_views_and_gaps_stay_nodata",
    ),
    # MODIS
    mutant(
        "sources/modis/quality.py",
        "np.uint32(4 * band - 2)",
        "np.uint32(4 * band - 3)",
        "the quality bits of a band are read one bit too low",
        f"{MODIS}::test_each_band_has_four_bits_of_its_own",
    ),
    mutant(
        "sources/modis/quality.py",
        "(rule.internal_cloud, (10,))",
        "(rule.internal_cloud, (11,))",
        "the internal cloud flag is ignored",
        f"{MODIS}::test_the_state_bits_mean_what_the_guide_states",
    ),
    mutant(
        "sources/modis/quality.py",
        "(field(state, 8, 2) <= rule.cirrus) & (field(state, 6, 2) <= rule.aerosol)",
        "(field(state, 6, 2) <= rule.cirrus) & (field(state, 8, 2) <= rule.aerosol)",
        "cirrus and aerosol are swapped",
        f"{MODIS}::test_the_state_bits_mean_what_the_guide_states",
    ),
    mutant(
        "sources/modis/quality.py",
        "VALID_RANGE = (-100, 16_000)",
        "VALID_RANGE = (-30_000, 16_000)",
        "the fill value is a reflectance",
        f"{MODIS}::test_numbers_outside_the_valid_range_are_gaps",
    ),
    mutant(
        "sources/modis/months.py",
        "year = start.year + (number < first)",
        "year = start.year",
        "days after New Year fall in the old year",
        f"{MODIS}::test_a_composite_over_new_year_fills_both_years",
    ),
    mutant(
        "sources/modis/months.py",
        'if merge == "observations":',
        'if merge == "satellites":',
        "Terra and Aqua are merged by the other rule",
        f"{MODIS}::test_a_month_is_the_mean_of_the_means_of_both_satellites",
    ),
    mutant(
        "sources/terrain.py",
        "south[y, x] = (below - above) / (8 * high)",
        "south[y, x] = (below - above) / (4 * high)",
        "slopes to the south are twice as steep",
        f"{TERRAIN}::test_a_plane_has_one_slope_everywhere",
    ),
)


def main() -> int:
    """Run the mutants and list the survivors; 1 if there are any."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="Mutants whose file or description holds this text.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--list", action="store_true", help="List them, check that they apply, and run nothing."
    )
    options = parser.parse_args()
    chosen = [one for one in MUTANTS if options.only in f"{one.file} {one.breaks}"]
    broken = [one for one in chosen if (SOURCE / one.file).read_text(encoding="utf-8").count(one.old) != 1]
    for one in broken:
        print(f"does not apply: {one.file}: not exactly once: {one.old!r}", flush=True)
    for one in chosen:
        broken += [one for test in one.tests if not is_test(test)]
    if options.list:
        for one in chosen:
            print(f"{one.file}: {one.breaks}")
        print(f"{len(chosen)} mutants, {len(broken)} do not apply")
        return 1 if broken else 0
    if broken:
        return 1
    started = time.monotonic()
    if not untouched_tests_pass(chosen):
        print("The tests fail without any mutant: nothing can be learned from them.")
        return 1
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(run, chosen))
    bad = [one for one, outcome in zip(chosen, outcomes, strict=True) if outcome != "killed"]
    print(f"{len(chosen) - len(bad)} of {len(chosen)} mutants noticed in {time.monotonic() - started:.0f} s")
    for one in bad:
        print(f"survivor: {one.file}: {one.breaks}")
    return 1 if bad else 0


def is_test(test: str) -> bool:
    """Whether a node id names a test that exists."""
    file, _, name = test.partition("::")
    there = (TESTS / file).exists() and f"def {name}(" in (TESTS / file).read_text(encoding="utf-8") + "def ("
    if not there:
        print(f"no such test: {test}")
    return there


def untouched_tests_pass(mutants: list[Mutant]) -> bool:
    """Whether all named tests pass with the package as it is."""
    tests = sorted({test for one in mutants for test in one.tests})
    with tempfile.TemporaryDirectory(prefix="tesela-mutant-") as folder:
        copy_package(Path(folder))
        code, text = run_tests(Path(folder), tests)
    if code != 0:
        print(text)
    return code == 0


def run(one: Mutant) -> str:
    """Outcome of a mutant: "killed", "survived" or "error"."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tesela-mutant-") as folder:
        package = copy_package(Path(folder))
        plant(one, package)
        code, text = run_tests(Path(folder), one.tests)
    outcome = {0: "survived", 1: "killed", 124: "killed"}.get(code, "error")
    print(f"{outcome:9} {time.monotonic() - started:5.1f} s  {one.file}: {one.breaks}", flush=True)
    if outcome == "error":
        print(text)
    return outcome


def copy_package(folder: Path) -> Path:
    """Copy the package with its compiled kernels, times of the files kept."""
    return Path(shutil.copytree(SOURCE, folder / "tesela"))


def plant(one: Mutant, package: Path) -> None:
    """Replace the text, and forget what was compiled of this file and of those that import it."""
    path = package / one.file
    text = path.read_text(encoding="utf-8")
    if text.count(one.old) != 1:
        raise SystemExit(f"{one.file}: not exactly once: {one.old!r}")
    path.write_text(text.replace(one.old, one.new), encoding="utf-8")
    texts = {other: other.read_text(encoding="utf-8") for other in package.rglob("*.py")}
    stale, added = {path}, {path}
    while added:
        names = [".".join(other.relative_to(package.parent).with_suffix("").parts) for other in added]
        pattern = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names))
        added = {other for other, content in texts.items() if other not in stale and pattern.search(content)}
        stale |= added
    for other in stale:
        for compiled in (other.parent / "__pycache__").glob(f"{other.stem}.*"):
            compiled.unlink()


def run_tests(folder: Path, tests: tuple[str, ...] | list[str]) -> tuple[int, str]:
    """Exit code and output of pytest with the package of a folder; 124 after `TIMEOUT_S`."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command = [*words, *(str(TESTS / test) for test in tests)]
    check = (
        "import pathlib, sys, tesela; sys.exit(not pathlib.Path(tesela.__file__).is_relative_to(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", check, str(folder)], env=environment, cwd=ROOT, check=True)
    try:
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, ""
    return done.returncode, done.stdout[-3000:] + done.stderr[-1000:]


if __name__ == "__main__":
    sys.exit(main())
