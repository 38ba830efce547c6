"""Reads names, web addresses and pages of accounts, makes the keys that two spellings of one organisation share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import pandas as pd

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
_INVISIBLE = re.compile("[\u0300-\u036f\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
_SUFFIX = re.compile(r"\.(?:com|net|org|io|de|fr|co\.uk)\b")
_APOSTROPHE, _NO_LETTER = re.compile(r"[.'’`´]"), re.compile(r"[^\w]+|_")
_LONG_PLACE = re.compile(rf"\b(?:{'|'.join(LONG_PLACES)})\b")
_STOP_WORD, _AND = re.compile(rf"\b(?:{STOP_WORDS})\b"), re.compile(r"\band\b")
_DIGITS, _SPACE_OR_DIGIT = re.compile(r"\d+"), re.compile(r"[\s\d]+")
_INITIAL = re.compile(r"(\w)\w*\s?")
_SCHEME, _PATH, _PORT = re.compile(r"^[a-z]+://"), re.compile(r"[/?#].*$"), re.compile(r":\d+$|\.+$")
_REGISTERED = re.compile(rf"(?:^|\.)(?P<label>[^.\s]+)\.(?P<suffix>{SECOND_LEVEL}|[^.\s]{{2,24}})$")
_QUERY, _PAGE = re.compile(r"[?#].*$"), re.compile(r"/(?:company|school|showcase|in)/([^/]+)$")
_EVERY_PLACE = PLACES | set(SAME_PLACE.values())
_LONGEST_NAME = 200  # characters; what stands behind tells no organisations apart


def fold(text: pd.Series) -> pd.Series:
    """Text without case, accents, invisible characters and surrounding space (NFKD); missing is empty."""
    return _by_level(text, lambda t: (t,), ["text"])["text"]


def read_names(name: pd.Series) -> pd.DataFrame:
    """What a name says, in a form that spellings of one name share.

    Returns
    -------
    DataFrame with the index of `name`: words (name without legal form, stop words and places, short forms written out),
    core (their letters), written (letters of the name without legal form), whole (all of it), ordered (words in
    alphabetical order), turned (their letters), places, numbers (digits in order), legal (kind of legal form),
    initials.
    """
    return _by_level(name, _read_name, _SAID)


def read_domains(domain: pd.Series) -> pd.DataFrame:
    """The registrable domain of a web address, its label (without suffix) and suffix; shared hosts count as missing."""
    return _by_level(domain, _read_domain, ["domain", "label", "suffix"])


def read_pages(url: pd.Series) -> pd.Series:
    """The part of a company page's address that names the organisation; empty where there is none."""
    return _by_level(url, _read_page, ["page"])["page"]


def _by_level(text: pd.Series, read: Callable[[str], tuple[str, ...]], names: Sequence[str]) -> pd.DataFrame:
    """What `read` makes of each distinct folded text, spread to the rows; nothing where the text is missing."""
    codes, levels = pd.factorize(text.astype("str").fillna(""))
    parts = list(zip(*(read(_folded(level)) for level in levels), strict=True)) or [()] * len(names)
    columns = {n: pd.array(list(p), dtype="str").take(codes) for n, p in zip(names, parts, strict=True)}
    return pd.DataFrame(columns, index=text.index)


def _folded(text: str) -> str:
    text = text[:_LONGEST_NAME].lower()
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text).replace("ß", "ss").translate(_LETTERS).lower()
        text = _INVISIBLE.sub("", text)
    return " ".join(text.split())


_SAID = ("words", "core", "written", "whole", "ordered", "turned", "places", "numbers", "legal", "initials")


def _read_name(folded: str) -> tuple[str, ...]:
    """The columns of `read_names` for one folded name."""
    plain = _SUFFIX.sub(" ", folded)
    plain = _APOSTROPHE.sub("", plain).replace("&", " and ").replace("+", " and ")
    plain = _NO_LETTER.sub(" ", plain).strip()
    plain = _LONG_PLACE.sub(lambda found: LONG_PLACES[found[0]], plain)
    body, legal = _without_legal_form(plain)
    said = _long_words(body)
    named = [w for w in said if w not in _EVERY_PLACE]
    joined = " ".join(named or sorted(said))  # a name made of places alone keeps them as its words
    places = " ".join(sorted(w for w in said if w in _EVERY_PLACE)) if named else ""
    ordered = " ".join(sorted(joined.split()))
    core, written, turned = (_run_together(t) for t in (joined, body, ordered))
    numbers, initials = " ".join(_DIGITS.findall(body)), _INITIAL.sub(r"\1", joined)
    return joined, core, written, plain.replace(" ", ""), ordered, turned, places, numbers, legal, initials


def _read_domain(folded: str) -> tuple[str, str, str]:
    """Domain, label and suffix of one folded web address."""
    host = _SCHEME.sub("", folded)
    host = _PATH.sub("", host)
    host = _PORT.sub("", host.rpartition("@")[2])
    found = _REGISTERED.search(host)
    if not found or found[0].removeprefix(".") in SHARED_HOSTS or host in SHARED_HOSTS:
        return "", "", ""
    return f"{found['label']}.{found['suffix']}", found["label"].replace("-", ""), found["suffix"]


def _read_page(folded: str) -> tuple[str]:
    found = _PAGE.search(_QUERY.sub("", folded).rstrip("/"))
    return (found[1] if found else "",)


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


def _without_legal_form(plain: str) -> tuple[str, str]:
    """A name without the legal form at its end, and its kind; a name that is nothing else keeps it."""
    forms = _forms()
    plain = forms.front.sub(r"\g<rest> \g<form>", plain)
    tail = forms.tail.search(plain)
    if not tail:
        return plain, ""
    form = _AND.sub("", tail["form"]).strip()
    return tail["body"], next((kind for kind, ends in forms.kinds if ends.search(form)), "")


@dataclass(frozen=True)
class _Forms:
    front: re.Pattern[str]
    tail: re.Pattern[str]
    kinds: tuple[tuple[str, re.Pattern[str]], ...]


@cache
def _forms() -> _Forms:
    """Expressions of legal forms, made when the first name is read."""
    every = sorted("|".join(LEGAL_FORMS.values()).split("|") + COMPANY.split("|"), key=len, reverse=True)
    return _Forms(
        re.compile(rf"^(?P<form>{FORMS_IN_FRONT}) (?P<rest>\w.*)$"),
        re.compile(rf"^(?P<body>.*?\w.*?)(?P<form>(?: (?:and )?(?:{'|'.join(every)}))+)$"),
        tuple((kind, re.compile(rf"(?:^| )(?:{spellings})$")) for kind, spellings in LEGAL_FORMS.items()),
    )


def _long_words(body: str) -> list[str]:
    """The words of a name: stop words out, short forms written out, one form for singular and plural, one name per place."""
    spaced = _STOP_WORD.sub(" ", body).strip() or body
    return [_long_word(w) for w in spaced.split()]


@lru_cache(maxsize=100_000)
def _long_word(word: str) -> str:
    word = SHORT_FORMS.get(word, word)
    word = SAME_PLACE.get(word, word)
    if len(word) > 4 and word.endswith("s") and not word.endswith("ss") and word not in PLACES:
        word = word[:-1]
    return SHORT_FORMS.get(word, word)


def _run_together(words: str) -> str:
    """Letters of the words without spaces and digits; ä, ae and a are one letter."""
    letters = _SPACE_OR_DIGIT.sub("", words)
    for vowel in "aou":
        letters = letters.replace(f"{vowel}e", vowel)
    return letters
