"""
The published examples of Olofsson et al. (2013, 2014) and Stehman (2014) beside our numbers.

Prints one JSON document; with --table the table of docs/accuracy.md.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tesela.sampling.design import sample_size
from tesela.sampling.error_matrix import Sample
from tesela.sampling.estimates import AccuracyEstimates, estimate_accuracy
from tesela.sampling.estimators import Z_95

EXAMPLES = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Line:
    """One published number."""

    paper: str
    what: str
    published: float
    digits: int
    """Digits after the point that the paper prints."""
    ours: float
    remark: str = ""

    @property
    def same(self) -> bool:
        """Whether ours, rounded as in the paper, is what the paper prints."""
        return round(self.ours, self.digits) == round(self.published, self.digits)


def olofsson_2014(examples: dict) -> AccuracyEstimates:
    item = examples["olofsson2014_table8"]
    sample = Sample.from_matrix(
        item["rows_map_cols_ref"],
        sizes_px=item["mapped_pixels"],
        classes=item["classes"],
        pixel_area_ha=item["pixel_ha"],
    )
    return estimate_accuracy(sample, finite=False)


def olofsson_2013(examples: dict) -> AccuracyEstimates:
    item = examples["olofsson2013_example1"]
    sample = Sample.from_matrix(
        item["rows_map_cols_ref"], sizes_px=item["mapped_area"], classes=["1", "2", "3"]
    )
    return estimate_accuracy(sample, finite=False)


def stehman_2014(examples: dict) -> AccuracyEstimates:
    item = examples["stehman2014"]
    sample = Sample.from_points(
        item["strata"], item["map"], item["ref"], sizes_px=item["N_h"], classes="ABCD"
    )
    return estimate_accuracy(sample)


def lines(examples: dict) -> list[Line]:
    found = []
    ours, printed = olofsson_2014(examples), examples["olofsson2014_table8"]["published"]
    loss = ours.areas_ha[0]
    size = examples["olofsson2014_table8"]["sample_size"]
    paper = "Olofsson 2014, table 8"
    points = sample_size(np.array(size["W"]), np.array(size["U"]), target_se=size["target_se_OA"])
    found += [
        Line(paper, "deforestation, ha", printed["area_deforestation_ha"], 0, loss.value),
        Line(paper, "  ± 95 %, ha", printed["ci_ha"], 0, loss.half_width),
        Line(paper, "deforestation, pixels", printed["area_deforestation_pixels"], 0, loss.value / 0.09),
        Line(paper, "  ± 95 %, pixels", printed["ci_pixels"], 0, loss.half_width / 0.09),
        Line(paper, "sample size for S(O) = 0.01", size["n_rounded"], 0, float(np.ceil(points))),
    ]
    ours, printed = olofsson_2013(examples), examples["olofsson2013_example1"]["published"]
    area, paper = ours.shares[0].scaled(ours.sample.area_ha), "Olofsson 2013, example 1"
    found += [
        Line(paper, "area of class 1", printed["area_1"], 0, area.value),
        Line(paper, "  ± 95 %", printed["ci_area_1"], 0, area.half_width),
        Line(paper, "overall accuracy", printed["OA"], 3, ours.overall.value),
        Line(paper, "  ± 95 %", printed["ci_OA"], 3, ours.overall.half_width),
    ]
    for k in range(3):
        found.append(Line(paper, f"user's accuracy of {k + 1}", printed["UA"][k], 2, ours.users[k].value))
        found.append(
            Line(paper, f"producer's accuracy of {k + 1}", printed["PA"][k], 2, ours.producers[k].value)
        )
    ours, printed, paper = stehman_2014(examples), examples["stehman2014"]["published"], "Stehman 2014"
    numbers = (
        ("area of A", "area_A", ours.shares[0], 2),
        ("area of C", "area_C", ours.shares[2], 2),
        ("overall accuracy", "OA", ours.overall, 2),
        ("user's accuracy of B", "UA_B", ours.users[1], 3),
        ("producer's accuracy of B", "PA_B", ours.producers[1], 3),
    )
    for what, key, estimate, digits in numbers:
        remark = "a slip in the paper: its formula gives 0.117" if key == "PA_B" else ""
        found.append(Line(paper, what, printed[key][0], digits, estimate.value))
        found.append(Line(paper, "  standard error", printed[key][1], 3, estimate.se, remark))
    found.append(
        Line(paper, "cell: map B, reference C", printed["p_map_B_ref_C"], 2, float(ours.cells[1, 2]))
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="print a table for people")
    rows = lines(json.loads(EXAMPLES.read_text(encoding="utf-8")))
    if parser.parse_args().table:
        print("| Paper | Number | Published | Tesela | |\n| --- | --- | ---: | ---: | --- |")
        for row in rows:
            verdict = row.remark or ("same" if row.same else "DIFFERENT")
            text = f"{row.published:,.{row.digits}f} | {row.ours:,.{row.digits + 2}f}"
            print(f"| {row.paper} | {row.what.strip()} | {text} | {verdict} |")
        return
    document = {
        "claim": "published accuracy and area estimates are reproduced",
        "z": Z_95,
        "same": sum(row.same for row in rows),
        "different": sum(not row.same and not row.remark for row in rows),
        "misprints": sum(bool(row.remark) for row in rows),
        "rows": [asdict(row) | {"same": row.same} for row in rows],
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
