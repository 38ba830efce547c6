"""Reads names, web addresses and pages of accounts, makes the keys that two spellings of one organisation share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from icplab.intake.matching.words import (
    COMPANY,
    FORMS_IN_FRONT,
    LEGAL_FORMS,
    LONG_PLACES,
    PLACES,
    SAME_PLACE,
    SECOND_LEVEL,
    SHARED_HOSTS,
    SHORT_FORMS,
    STOP_WORDS,
)

_LETTERS = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ı": "i", "þ": "th", "ð": "d"})
_INVISIBLE = "[\u0300-\u036f\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]"
_LONGEST_NAME = 200  # characters; what stands behind tells no organisations apart


def fold(text: pd.Series) -> pd.Series:
    """Text without case, accents, invisible characters and surrounding space (NFKD); missing is empty."""
    codes, levels = pd.factorize(text.fillna("").astype("str").str.slice(0, _LONGEST_NAME))
    plain = pd.Series(levels, dtype="str").str.lower()
    foreign = ~plain.str.isascii()
    if foreign.any():
        other = plain[foreign].str.normalize("NFKD").str.replace("ß", "ss", regex=False).str.translate(_LETTERS)
        plain[foreign] = other.str.lower().str.replace(_INVISIBLE, "", regex=True)
    plain = plain.str.replace(r"\s+", " ", regex=True).str.strip()
    return pd.Series(plain.array.take(codes), index=text.index, name=text.name)


def read_names(name: pd.Series) -> pd.DataFrame:
    """What a name says, in a form that spellings of one name share.

    Returns
    -------
    DataFrame with the index of `name`: words (name without legal form, stop words and places, short forms written out),
    core (their letters), written (letters of the name without legal form), whole (all of it), ordered (words in
    alphabetical order), turned (their letters), places, numbers (digits in order), legal (kind of legal form),
    initials.
    """
    plain = fold(name).str.replace(r"\.(?:com|net|org|io|de|fr|co\.uk)\b", " ", regex=True)
    plain = plain.str.replace(r"[.'’`´]", "", regex=True).str.replace(r"[&+]", " and ", regex=True)
    plain = plain.str.replace(r"[^\w]+|_", " ", regex=True).str.strip()
    for several, one in LONG_PLACES.items():
        plain = plain.str.replace(rf"\b{several}\b", one, regex=True)
    body, legal = _without_legal_form(plain)
    numbers = body.str.findall(r"\d+").str.join(" ")
    parts = _long_words(body)
    parts["is_place"] = parts["word"].isin(PLACES | set(SAME_PLACE.values()))
    joined = _joined(parts[~parts["is_place"]], body.index)
    places = _joined(parts[parts["is_place"]].sort_values(["index", "word"], kind="stable"), body.index)
    bare = joined == ""  # a name made of places alone keeps them as its words
    joined, places = joined.where(~bare, places), places.where(~bare, "")
    ordered = _joined(_exploded(joined).sort_values(["index", "word"], kind="stable"), body.index)
    return pd.DataFrame(
        {
            "words": joined,
            "core": _run_together(joined),
            "written": _run_together(body),
            "whole": plain.str.replace(" ", "", regex=False),
            "ordered": ordered,
            "turned": _run_together(ordered),
            "places": places,
            "numbers": numbers,
            "legal": legal,
            "initials": joined.str.replace(r"(\w)\w*\s?", r"\1", regex=True),
        }
    )


def read_domains(domain: pd.Series) -> pd.DataFrame:
    """The registrable domain of a web address, its label (without suffix) and suffix; shared hosts count as missing."""
    host = fold(domain).str.replace(r"^[a-z]+://", "", regex=True).str.replace(r"[/?#].*$", "", regex=True)
    host = host.str.replace(r"^.*@", "", regex=True).str.replace(r":\d+$|\.+$", "", regex=True)
    found = host.str.extract(rf"(?:^|\.)(?P<label>[^.\s]+)\.(?P<suffix>{SECOND_LEVEL}|[^.\s]{{2,24}})$")
    registered = (found["label"] + "." + found["suffix"]).fillna("")
    shared = registered.isin(SHARED_HOSTS) | host.isin(SHARED_HOSTS)
    label = found["label"].fillna("").str.replace("-", "", regex=False)
    return pd.DataFrame(
        {
            "domain": registered.mask(shared, ""),
            "label": label.mask(shared, ""),
            "suffix": found["suffix"].fillna("").mask(shared, ""),
        }
    ).astype("str")


def read_pages(url: pd.Series) -> pd.Series:
    """The part of a company page's address that names the organisation; empty where there is none."""
    path = fold(url).str.replace(r"[?#].*$", "", regex=True).str.rstrip("/")
    return path.str.extract(r"/(?:company|school|showcase|in)/([^/]+)$")[0].fillna("").astype("str")


def deletions(text: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of every text, whole and with one letter left out, and the row each belongs to.

    Two texts one insertion, deletion, substitution or swap of neighbours apart share at least one hash (the symmetric
    deletion neighbourhood of Mor & Fraenkel 1982); equal hashes are candidates, never answers.
    """
    texts = text.to_numpy(dtype="str")
    width = max(texts.dtype.itemsize // 4, 1)
    letters = np.ascontiguousarray(texts).view(np.uint32).reshape(len(texts), width).astype(np.uint64)
    base = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(width, base, dtype=np.uint64))
        ahead = np.cumsum(letters * powers, axis=1)  # hash of the first i + 1 letters
        shifted = letters[:, 1:] * powers[:-1]
        behind = np.zeros_like(letters)
        behind[:, :-1] = np.cumsum(shifted[:, ::-1], axis=1)[:, ::-1]  # what follows, moved one place forward
        before = np.zeros_like(letters)
        before[:, 1:] = ahead[:, :-1]
        hashes = np.concatenate([before + behind, ahead[:, -1:]], axis=1)
    keep = np.concatenate([letters > 0, letters[:, :1] > 0], axis=1)
    rows = np.broadcast_to(np.arange(len(texts))[:, None], hashes.shape)
    return hashes[keep], rows[keep]


def _without_legal_form(plain: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Names without the legal form at their end, and its kind; a name that is nothing else keeps it."""
    every = sorted("|".join(LEGAL_FORMS.values()).split("|") + COMPANY.split("|"), key=len, reverse=True)
    plain = plain.str.replace(rf"^(?P<form>{FORMS_IN_FRONT}) (?P<rest>\w.*)$", r"\g<rest> \g<form>", regex=True)
    tail = plain.str.extract(rf"^(?P<body>.*?\w.*?)(?P<form>(?: (?:and )?(?:{'|'.join(every)}))+)$")
    form = tail["form"].fillna("").str.replace(r"\band\b", "", regex=True).str.strip()
    legal = pd.Series("", index=plain.index, dtype="str")
    for kind, spellings in LEGAL_FORMS.items():
        legal = legal.mask(form.str.contains(rf"(?:^| )(?:{spellings})$", regex=True) & (legal == ""), kind)
    return tail["body"].fillna(plain), legal


def _long_words(body: pd.Series) -> pd.DataFrame:
    """One row per word (index, word): stop words out, short forms written out, one form for singular and plural, one name per place."""
    spaced = body.str.replace(rf"\b(?:{STOP_WORDS})\b", " ", regex=True).str.strip()
    spaced = spaced.where(spaced != "", body)
    words = _exploded(spaced)
    word = words["word"].fillna("")
    word = word.map(SHORT_FORMS).fillna(word)
    word = word.map(SAME_PLACE).fillna(word)
    is_plural = (word.str.len() > 4) & word.str.endswith("s") & ~word.str.endswith("ss") & ~word.isin(PLACES)
    word = word.where(~is_plural, word.str.slice(0, -1))
    word = word.map(SHORT_FORMS).fillna(word)
    return words.assign(word=word.where(word != ""))


def _exploded(spaced: pd.Series) -> pd.DataFrame:
    return spaced.rename("word").rename_axis("index").str.split().explode().reset_index()


def _run_together(words: pd.Series) -> pd.Series:
    """Letters of the words without spaces and digits; ä, ae and a are one letter."""
    letters = words.str.replace(r"[\s\d]+", "", regex=True)
    for vowel in "aou":
        letters = letters.str.replace(f"{vowel}e", vowel, regex=False)
    return letters


def _joined(parts: pd.DataFrame, index: pd.Index) -> pd.Series:
    """Words of each row with spaces between; `parts` stands in the order of `index`, a range."""
    parts = parts[parts["word"].notna()]
    ends = np.searchsorted(parts["index"].to_numpy(), np.arange(len(index) + 1)).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(parts["word"], type=pa.string()))
    return pd.Series(pc.binary_join(lists, " ").to_numpy(zero_copy_only=False), index=index, dtype="str")
