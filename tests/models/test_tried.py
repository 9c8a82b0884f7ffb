"""The table of what `model = "auto"` tried."""

from __future__ import annotations

from tesela.models.tried import COLUMNS, tried_rows, tried_text

ROW = {"summary": "", "prior": 0.2, "accuracy": 0.91234, "macro_f1": 0.7, "lead_over_chosen": [-0.02, 0.01]}


def test_each_row_says_how_far_it_is_from_the_chosen_one() -> None:
    scores = {
        "tried": [{**ROW, "model": "boosting", "chosen": False}, {**ROW, "model": "unet", "chosen": True}]
    }
    rows = tried_rows(scores)
    assert rows[0] == ("boosting", "0.2", "0.9123", "0.7000", "-0.0200 to +0.0100")
    assert rows[1][-1] == "chosen"
    title, *lines = tried_text(scores).splitlines()
    assert title == "on the validation area:"
    assert lines[0].split() == " ".join(COLUMNS).split()
    assert [line.index("0.9123") for line in lines[1:]] == [lines[0].index("accuracy")] * 2


def test_headers_without_a_table_or_with_a_strange_one_give_nothing() -> None:
    assert tried_text({}) == ""
    assert tried_rows({"tried": [{"model": "x"}]}) == []
    assert tried_rows({"tried": "x"}) == []
