"""Reads the analyst's `duplicates.csv` and the judged pairs, makes answers to act on and the review file of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from icplab.core.errors import BadInput, Problem, nearest
from icplab.intake.matching.decide import Contradiction, Pair
from icplab.intake.matching.evidence import FIELDS

REVIEW_FILE = "duplicates.csv"
LARGEST_REVIEW = 50_000_000  # bytes
IDS = ("account_id_1", "account_id_2")
REVIEW = (*IDS, "name_1", "name_2", "what", "same", "probability", "evidence")
ANSWERS = {
    **dict.fromkeys(("yes", "y", "true", "1", "ja", "oui", "si", "merge"), "yes"),
    **dict.fromkeys(("no", "n", "false", "0", "nein", "non"), "no"),
    **dict.fromkeys(("group", "family"), "group"),
}
MERGED, ANSWERED_YES, KEPT_APART, ASKED, GROUP, IN_GROUP = (
    "merged: clear-cut",
    "merged: your answer",
    "kept apart: your answer",
    "please answer: one organisation?",
    "please answer: one group? (no: unrelated)",
    "one group: your answer",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")
_FIX = "write yes, no or group in the column same, or leave it blank"


def read_answers(folder: Path, known: Iterable[str]) -> tuple[dict[Pair, str], list[Problem]]:
    """What the analyst answered in the workspace's `duplicates.csv`: pair -> yes, no or group; blank rows are no answers.

    Only the two identifiers and `same` are needed, in any order of columns, separated by commas, semicolons or tabs.

    Returns
    -------
    answers : the smaller identifier first
    problems : ICP-E046 for a file that cannot be read, an account that is not there, an answer that is not one, two answers
        for one pair
    """
    path = folder / REVIEW_FILE
    if not path.is_file():
        return {}, []
    try:
        rows = _rows(path)
    except BadInput as error:
        return {}, error.problems
    ids, problems = set(known), []
    answers: dict[Pair, str] = {}
    for record, line, row in rows:
        said = row["same"].strip().lower()
        if not said:
            continue
        wrong = _wrong(row, said, ids)
        first, second = sorted(_identifier(row[c]) for c in IDS)
        pair = (first, second)
        if wrong is None and answers.get(pair, ANSWERS[said]) != ANSWERS[said]:
            wrong = (
                "same",
                said,
                f"is a second, different answer for {pair[0]} and {pair[1]}",
                "keep one of the two rows",
            )
        if wrong is not None:
            column, value, message, fix = wrong
            problems.append(Problem("ICP-E046", message, fix, REVIEW_FILE, record, line, column, value[:80]))
            continue
        answers[pair] = ANSWERS[said]
    return answers, problems


def contradiction_problem(found: Contradiction) -> Problem:
    """What to say about answers that exclude each other."""
    first, second = found.apart
    chain = " = ".join(found.chain[:6]) + (" = …" if len(found.chain) > 6 else "")
    message = f"answers contradict each other: {first} and {second} are answered as different, but yes joins {chain}"
    return Problem(
        "ICP-E046", message, "change one of these answers", REVIEW_FILE, column="same", value=f"{first}, {second}"
    )


def review_table(found: pd.DataFrame) -> pd.DataFrame:
    """The review file: pairs to answer first, then those acted on; the surest first.

    `found` has account_id_1, account_id_2, name_1, name_2, what, same, probability and one column of bits per field.
    """
    order = {w: i for i, w in enumerate((ASKED, GROUP, MERGED, ANSWERED_YES, IN_GROUP, KEPT_APART))}
    table = found.assign(evidence=_evidence(found), probability=found["probability"].round(4))
    table = table.assign(_order=table["what"].map(order), _least=-table["probability"])
    table = table.sort_values(["_order", "_least", *IDS], kind="stable", ignore_index=True)
    return table[[*REVIEW]]


def write_review(table: pd.DataFrame, path: Path) -> None:
    """Write the review file as CSV that a spreadsheet shows and does not execute."""
    text = table.astype({c: "str" for c in table if c != "probability"})
    for column in map(str, text.select_dtypes("str")):
        risky = text[column].fillna("").str.startswith(_FORMULA)
        text[column] = text[column].fillna("").mask(risky, "'" + text[column].fillna(""))
    text.to_csv(path, index=False, quoting=csv.QUOTE_ALL, lineterminator="\n", encoding="utf-8", float_format="%.4f")


def _rows(path: Path) -> list[tuple[int, int, dict[str, str]]]:
    """Record number, line and cells of every row."""
    if path.is_symlink() or path.stat().st_size > LARGEST_REVIEW:
        raise _unreadable("is a link or larger than a list of answers can be", "copy the list of answers itself")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _unreadable("is not UTF-8 text", 'save it as "CSV UTF-8"') from None
    except OSError as error:
        raise _unreadable(f"cannot be read: {error.strerror}", "check the file and its permissions") from None
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="", strict=True)
    try:
        names = [str(n).strip().lower() for n in reader.fieldnames or []]
        reader.fieldnames = names
        missing = [c for c in (*IDS, "same") if c not in names]
        if missing:
            near = nearest(missing[0], names)
            raise _unreadable(f"has no column {', '.join(missing)}{near}", "start from the duplicates.csv of a run")
        return [(i, reader.line_num, {c: row[c] or "" for c in (*IDS, "same")}) for i, row in enumerate(reader, 1)]
    except csv.Error as error:
        raise _unreadable(f"is not well-formed CSV: {error}", "save it again as CSV") from None


def _unreadable(message: str, fix: str) -> BadInput:
    return BadInput(Problem("ICP-E046", message, fix, REVIEW_FILE))


def _wrong(row: dict[str, str], said: str, known: set[str]) -> tuple[str, str, str, str] | None:
    """Column, value, message and fix of what keeps a row from being an answer."""
    if said not in ANSWERS:
        return "same", said, "is not an answer", _FIX
    for column in IDS:
        if _identifier(row[column]) not in known:
            fix = "correct it, or delete the row if the account is no longer exported"
            return column, row[column], "is not an account of this workspace", fix
    if _identifier(row[IDS[0]]) == _identifier(row[IDS[1]]):
        return IDS[1], row[IDS[1]], "is the same account twice", "name two accounts, or delete the row"
    return None


def _identifier(cell: str) -> str:
    """An identifier without the quote mark that keeps a spreadsheet from reading it as a formula."""
    text = cell.strip()
    return text[1:] if text[:1] == "'" and text[1:2] in _FORMULA else text


def _evidence(found: pd.DataFrame) -> pd.Series:
    """Fields with their bits, those that say nothing left out: `name +16.8, domain missing, country -4.0`."""
    text = pd.Series("", index=found.index, dtype="str")
    for field in FIELDS:
        bits = found[field].fillna(0.0).round(1)
        said = field + " " + bits.map("{:+.1f}".format).astype("str")
        text = text + said.where(bits != 0.0, "").mask(bits != 0.0, ", " + said)
    return text.str.slice(2)
