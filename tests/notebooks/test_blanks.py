"""The reader works: what is asked is answered in a fold, and 04 judges what fills its blanks."""

import contextlib
import io
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
STEMS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SHOWN = "print(inspect.getsource", "def draw_at", "exhibit = museum"    # they tell no answer
EVERY = "token 0, 1, 2, 3, 4 (dropped), 5;"
WRONG = {                           # by blank: a wrong answer, and what must be said of it
    1: [("d_out_TD = v.gate_T[:, None] * r_TD", "token 4 (dropped);"),
        ("d_out_TD = v.kept_T[:, None] * r_TD", "token 0, 1, 2, 3, 5;")],
    2: [("d_gate_T = v.kept_T * (v.out_TD * r_TD).mean(axis=1)", "every entry is 0.5 times"),
        ("d_gate_T = (v.out_TD * r_TD).sum(axis=1)", "token 4 (dropped);")],
    3: [("d_pre_TF = np.einsum('td,tfd->tf', d_out_TD, v.w_out[v.expert_T])", "token 2;"),
        ("d_pre_TF = np.einsum('td,tdf->tf', d_out_TD, v.w_out[v.expert_T]) * (v.pre_TF > 0)",
         "token 0, 2, 3;"), ("d_pre_TF = np.zeros((6, 3))", "wanted (6, 2)")],
    4: [("d_w_out = d_w_in = np.stack([v.hidden_TF.T @ d_out_TD] * 3)", "expert 0, 1, 2"),
        ("d_w_out, d_w_in = [np.stack([back[v.expert_T == e].T @ went[v.expert_T == e] for e in "
         "range(3)]) for went, back in ((v.hidden_TF, d_out_TD), (x_TD, d_pre_TF))]", "expert 0")],
    5: [("x_experts_TD = np.einsum('tf,tfd->td', d_pre_TF, v.w_in[v.expert_T])", "token 1, 5;")],
    6: [("d_probs_TE = np.eye(3)[v.expert_T] * d_gate_T[:, None]", EVERY),
        ("d_probs_TE = np.eye(3)[v.expert_T] * d_gate_T[:, None] + alpha * 3 * np.array([2, 2, 1]) "
         "/ 36", EVERY)],
    7: [("d_log_z_T = 2 * beta * v.log_z_T", "every entry is 6 times"),
        ("d_log_z_T = beta * v.log_z_T / T", "every entry is 0.5 times"),
        ("d_log_z_T = np.full(6, np.nan)", EVERY)],
    8: [("d_logits_TE = v.probs_TE * (1 - v.probs_TE) * d_probs_TE + v.probs_TE * "
         "d_log_z_T[:, None]", EVERY),
        ("d_logits_TE = v.probs_TE * (d_probs_TE - (v.probs_TE * d_probs_TE).sum(1)[:, None])",
         EVERY)],
    9: [("d_w_router = x_TD.T @ d_logits_TE", "row 0, 1"),
        ("d_w_router = (v.kept_T[:, None] * x_TD * s_TD).T @ d_logits_TE", "row 0, 1")],
    10: [("d_x_TD = x_experts_TD", EVERY),
         ("d_x_TD = x_experts_TD + d_logits_TE @ v.w_router.T", EVERY),
         ("d_x_TD = x_experts_TD + v.kept_T[:, None] * s_TD * (d_logits_TE @ v.w_router.T)",
          "token 4 (dropped);")],
}


def cells(stem, kind=None, tag=None):
    """Return a notebook's cells, with `text`; of one kind, with one tag."""
    found = json.loads((FOLDER / f"{stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [dict(cell, text="".join(cell["source"])) for cell in found
            if kind in (None, cell["cell_type"])
            and (tag is None or tag in cell["metadata"].get("tags", []))]


def printed(text, names):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(text, names)
    return said.getvalue()


def test_each_blank_alone_is_empty_right_or_refused_with_a_hint():
    solutions = [cell["text"] for cell in cells("04_solution", tag="blank")]
    names, number, blank = {}, 0, ""
    for cell in cells("04_backward_by_hand", "code"):
        tags = cell["metadata"].get("tags", [])
        if "blank" in tags:
            number, blank = number + 1, cell["text"]
        elif "blank-check" in tags:
            check = cell["text"]
            said = printed(f"{solutions[number - 1]}\n{check}", dict(names))
            assert said.count(f"blank {number}: d_") == said.count("is right") == said.count("\n")
            for wrong, words in WRONG[number]:
                said = printed(f"{wrong}\n{check}", dict(names))
                assert f"blank {number}, not yet: " in said and words in said, (number, said)
                assert "\nhint: " in said and "is right" not in said, (number, said)
            assert f"blank {number} is still empty" in printed(f"{blank}\n{check}", names)
        elif "plots.figure" not in cell["text"]:
            exec(cell["text"], names)
    assert number == len(solutions) == len(WRONG) == 10


def test_the_solution_has_the_layer_and_the_judge_of_the_notebook():
    mine, solved = ([cell["text"] for cell in cells(stem, "code")]
                    for stem in ("04_backward_by_hand", "04_solution"))
    judged = [text for text in mine if text.startswith(("x_TD =", "class Held", "def ", "config ="))
              and "logits_line" not in text and "plots.figure" not in text]
    judged += [cell["text"] for cell in cells("04_backward_by_hand", tag="blank-check")]
    assert len(judged) == 17 and set(judged) <= set(solved)


@pytest.mark.parametrize("stem", STEMS)
def test_what_is_asked_is_answered_in_a_fold_and_the_output_that_tells_it_is_closed(stem):
    asked = False
    for cell in cells(stem):
        if "**Ask.**" in cell["text"]:
            folds = cell["text"].count("<details><summary>Answer</summary>")
            assert cell["text"].count("**Ask.**") == folds == 1, cell["text"]
            asked = True
        elif asked and cell.get("outputs") and not cell["text"].startswith(SHOWN):
            closed = cell["metadata"].get("jupyter", {}).get("outputs_hidden")
            assert closed or "blank-check" in cell["metadata"].get("tags", []), cell["text"]
            asked = False
