"""Reads a seed, makes account lists with planted duplicates of many kinds, and with accounts that only look like duplicates.

Two vocabularies: `trades` is the one the weights were set on; `places` shares no word, no country mix and no corruption rates
with it and judges. Truth is `entity`: two accounts are duplicates when it is equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Vocabulary:
    """What names, addresses and domains of one generated market are made of."""

    heads: tuple[str, ...]
    tails: tuple[str, ...]
    trades: tuple[str, ...]
    countries: dict[str, tuple[str, tuple[str, ...]]]
    """Country -> suffix of its domains, legal forms."""
    cities: tuple[str, ...]
    industries: tuple[str, ...]
    short: dict[str, str]


TRADES = Vocabulary(
    heads=tuple("Abner Bolt Carden Drum Eller Fens Gart Hollis Ingram Jarl Kessel Lorn Marden Nolte Osten Pfeil Quant Roth Sander Tolv Ulmer Varga Weller Yates Zorn Müll Krä Böh Renau Sté".split()),
    tails=tuple("ford mann stein berg wick dale hart sen ova etti ow ley brook ham bach thal rup ix ara ion eco bury field tec max nor".split()),
    trades=tuple("Systems Works Logistics Foods Textiles Instruments Technologies Manufacturing International Services Engineering Energy Consulting Capital Solutions Holdings Industries Packaging Motors Media".split()),
    countries={
        "Germany": ("de", ("GmbH", "AG", "GmbH & Co. KG")),
        "France": ("fr", ("S.A.", "SARL", "SAS")),
        "United Kingdom": ("co.uk", ("Ltd", "PLC", "Limited")),
        "United States": ("com", ("Inc.", "LLC", "Corp.", "Corporation")),
        "Netherlands": ("nl", ("B.V.", "N.V.")),
    },
    cities=tuple(f"{a}{b}" for a in ("Neu", "Alt", "Bad", "Ober", "Saint-", "Mont", "Wester", "Norder") for b in ("burg", "feld", "ville", "ton", "kerk", "stadt")),
    industries=("Manufacturing", "Software", "Retail", "Logistics", "Health care", "Construction", "Finance"),
    short={"Technologies": "Tech", "Manufacturing": "Mfg", "International": "Intl", "Services": "Svcs", "Engineering": "Eng.", "Systems": "Sys", "Industries": "Ind."},
)  # fmt: skip
PLACES = Vocabulary(
    heads=tuple("Cascade Lumen Onyx Verdant Harrow Pelican Juniper Saffron Tundra Velo Mistral Kestrel Orchid Basalt Tamarin Zephyr Quill Ember Solano Brisk Río Água Žito Nová Åsen Thorn Indigo Cobalt Fathom Grove Heron Lyric".split()),
    tails=("", "", "", "a", "ia", "is", "on", "el", "port", "view", "gate", "point", "ridge", "crest", "way", "line", "well", "ora", "mark", "shore", "path"),
    trades=tuple("Biotech|Robotics|Analytics|Freight Services|Hotels|Insurance Brokers|Pharmaceuticals|Dental Care|Studios|Airlines|Wines|Legal|Furniture|Optics|Marine|Chemical Products|Telecommunications|Veterinary Clinics|Publishing|Aggregates|Dairy|Staffing".split("|")),
    countries={
        "Spain": ("es", ("S.L.", "S.A.")),
        "Italy": ("it", ("S.p.A.", "S.r.l.")),
        "Sweden": ("se", ("AB",)),
        "Poland": ("pl", ("Sp. z o.o.", "S.A.")),
        "Australia": ("com.au", ("Pty Ltd", "Limited")),
        "Brazil": ("com.br", ("Ltda", "S.A.")),
        "Canada": ("ca", ("Inc", "Ltd.")),
        "Japan": ("co.jp", ("K.K.", "Co., Ltd.")),
    },
    cities=tuple(f"{a}{b}" for a in ("Villa", "Porto", "San ", "Lund", "Kal", "Mori", "Wag", "Tor") for b in ("nova", "sjö", "gawa", "mar", "owice", "bello", "by")),
    industries=("Biotechnology", "Hospitality", "Insurance", "Telecom", "Agriculture", "Publishing", "Transport", "Legal", "Dental"),
    short={"Pharmaceuticals": "Pharma", "Telecommunications": "Telecom", "Freight Services": "Freight Svc", "Chemical Products": "Chem. Products"},
)  # fmt: skip
VOCABULARIES = {"trades": TRADES, "places": PLACES}
# Chance that a duplicate keeps, lacks or changes what describes it, per vocabulary.
NOISE = {"trades": (0.25, 0.06), "places": (0.35, 0.09)}
WEB = {"trades": (0.50, 0.25, 0.13, 0.07, 0.05), "places": (0.40, 0.34, 0.12, 0.08, 0.06)}
"""Same, missing, www. or subdomain, another country's suffix, another domain."""


def plant(
    accounts: int, seed: int, vocabulary: str = "trades", share: float = 0.12, thin: bool = False
) -> pd.DataFrame:
    """Accounts with duplicates, families, namesakes, franchises, shared hosts and numbered names, in random order.

    Parameters
    ----------
    accounts : organisations; duplicates come on top
    share : of organisations that stand twice (a quarter of them three times); 0 plants none
    thin : only name, domain, country, industry and employees are filled, as in a small CRM
    """
    rng, words = np.random.default_rng([seed, len(vocabulary), ord(vocabulary[0])]), VOCABULARIES[vocabulary]
    base = _organisations(accounts, words, rng)
    looking_alike = accounts // 4  # they make room for themselves: the list keeps its size
    base = pd.concat([base.iloc[looking_alike:], _lookalikes(looking_alike, words, rng)], ignore_index=True)
    base["entity"] = np.arange(len(base))
    copies = base.iloc[rng.permutation(len(base))[: round(share * len(base))]]
    copies = pd.concat([copies, copies.iloc[: len(copies) // 4]])
    held = copies.astype(object).where(copies.notna(), None).to_dict("records")
    twins = pd.DataFrame([_copy(row, words, vocabulary, rng) for row in held], columns=base.columns)
    frame = pd.concat([base, twins], ignore_index=True).iloc[rng.permutation(len(base) + len(twins))]
    frame = frame.reset_index(drop=True)
    frame.insert(0, "account_id", [f"A{i:07d}" for i in rng.permutation(len(frame))])
    if thin:
        frame[["linkedin_url", "phone", "street", "postcode", "city", "annual_revenue", "founded_year"]] = None
    return _typed(frame)


def true_pairs(frame: pd.DataFrame) -> set[tuple[str, str]]:
    """Pairs of account_id that are one organisation, the smaller first."""
    both = frame[["account_id", "entity"]].merge(frame[["account_id", "entity"]], on="entity")
    both = both[both["account_id_x"] < both["account_id_y"]]
    return set(zip(both["account_id_x"], both["account_id_y"], strict=True))


def _organisations(n: int, words: Vocabulary, rng: np.random.Generator) -> pd.DataFrame:
    rows, seen = [], set()
    while len(rows) < n:
        name = _name(words, rng)
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        rows.append(_organisation(name, _pick(list(words.countries), rng), words, rng))
    return pd.DataFrame(rows)


def _organisation(name: str, country: str, words: Vocabulary, rng: np.random.Generator) -> dict:
    suffix, forms = words.countries[country]
    slug = "".join(c for c in name.lower().replace("&", "and") if c.isalnum() or c == " ")
    domain = slug.replace(" ", "-" if rng.random() < 0.3 else "") + "." + (suffix if rng.random() < 0.6 else "com")
    people = float(np.round(np.exp(rng.normal(4.8, 1.4))) + 1)
    return {
        "name": name + (" " + _pick(forms, rng) if rng.random() < 0.5 else ""),
        "domain": domain if rng.random() < 0.85 else None,
        "industry": _pick(words.industries, rng),
        "employees": people if rng.random() < 0.9 else None,
        "annual_revenue": round(people * np.exp(rng.normal(11.5, 0.6)), -4) if rng.random() < 0.7 else None,
        "country": country if rng.random() < 0.95 else None,
        "founded_year": float(rng.integers(1950, 2023)) if rng.random() < 0.7 else None,
        "linkedin_url": "https://www.linkedin.com/company/" + slug.replace(" ", "-") if rng.random() < 0.55 else None,
        "phone": "+" + str(rng.integers(10**9, 10**10)) if rng.random() < 0.6 else None,
        "street": f"{_pick(words.heads, rng)} Street {rng.integers(1, 200)}" if rng.random() < 0.7 else None,
        "postcode": str(rng.integers(10_000, 99_999)) if rng.random() < 0.7 else None,
        "city": _pick(words.cities, rng) if rng.random() < 0.8 else None,
        "parent_account_id": None,
    }


def _name(words: Vocabulary, rng: np.random.Generator) -> str:
    def invented() -> str:
        return (
            _pick(words.heads, rng) + _pick(words.tails, rng) + (_pick(words.tails, rng) if rng.random() < 0.5 else "")
        )

    kind = rng.random()
    if kind < 0.45:
        return f"{invented()} {_pick(words.trades, rng)}"
    if kind < 0.60:
        return f"{invented()} & {invented()}"
    if kind < 0.75:
        return f"{invented()} {invented()} {_pick(words.trades, rng)}"
    if kind < 0.82:
        return "".join(chr(65 + c) for c in rng.integers(0, 26, 3)) + f" {_pick(words.trades, rng)}"
    return invented() + _pick(words.tails, rng).lower()


def _lookalikes(n: int, words: Vocabulary, rng: np.random.Generator) -> pd.DataFrame:
    """Accounts that look alike and are not: families, namesakes abroad, franchises, shared hosts, numbers, one letter apart."""
    rows: list[dict] = []
    countries = list(words.countries)
    while len(rows) < n:
        kind, stem = rng.integers(0, 6), _name(words, rng)
        if kind == 0:
            rows += _family(stem, words, rng)
        elif kind == 1:
            two = rng.permutation(len(countries))[:2]
            short = f"{_pick(words.heads, rng)} {_pick(words.trades, rng)}"
            rows += [_organisation(short, countries[c], words, rng) | {"linkedin_url": None} for c in two]
            rows[-1]["domain"] = None if rng.random() < 0.3 else "the" + str(rows[-1]["domain"] or "one.com")
        elif kind == 2:
            town = rng.permutation(list(words.cities))[: rng.integers(3, 9)]
            shops = [_organisation(f"{stem} {t}", countries[0], words, rng) | {"city": t} for t in town]
            rows += [
                s | {"domain": shops[0]["domain"], "industry": shops[0]["industry"], "linkedin_url": None}
                for s in shops
            ]
        elif kind == 3:
            host = _pick(("gmail.com", "facebook.com", "yahoo.com", "wixsite.com"), rng)
            rows += [
                _organisation(_name(words, rng), _pick(countries, rng), words, rng) | {"domain": host} for _ in range(5)
            ]
        elif kind == 4:
            first = int(rng.integers(1, 500))
            rows += [
                _organisation(f"{stem} {first + i}", countries[0], words, rng) | {"domain": None} for i in range(4)
            ]
        else:
            rows += [_organisation(n, _pick(countries, rng), words, rng) for n in (stem, _typo(stem, rng))]
    return pd.DataFrame(rows[:n])


def _family(stem: str, words: Vocabulary, rng: np.random.Generator) -> list[dict]:
    chosen = rng.permutation(list(words.countries))[: rng.integers(2, 5)]
    members = [_organisation(f"{stem} {c}", c, words, rng) for c in chosen]
    if rng.random() < 0.6:  # one web site for all of them
        members = [m | {"domain": members[0]["domain"]} for m in members]
    return members


def _copy(row: dict, words: Vocabulary, vocabulary: str, rng: np.random.Generator) -> dict:
    lost, changed = NOISE[vocabulary]
    copy = row | {"name": _misspell(row["name"], words, rng), "domain": _web(row, words, vocabulary, rng)}
    other = _organisation("Other", row["country"] or next(iter(words.countries)), words, rng)
    for column in ("industry", "country", "founded_year", "phone", "street", "postcode", "city", "annual_revenue"):
        luck = rng.random()
        copy[column] = None if luck < lost else other[column] if luck < lost + changed else row[column]
    if copy["employees"] is not None:
        luck = rng.random()
        jitter = float(max(1, round(copy["employees"] * np.exp(rng.normal(0, 0.12)))))
        copy["employees"] = None if luck < 0.2 else jitter if luck < 0.5 else copy["employees"]
    copy["linkedin_url"] = None if rng.random() < 0.5 else row["linkedin_url"]
    return copy


def _web(row: dict, words: Vocabulary, vocabulary: str, rng: np.random.Generator) -> str | None:
    same, missing, dressed, twin, _ = np.cumsum(WEB[vocabulary])
    domain, luck = row["domain"], rng.random()
    if domain is None or same <= luck < missing:
        return None
    if luck < same:
        return domain
    if luck < dressed:
        return _pick(("www.", "https://www.", "shop.", "HTTP://"), rng) + domain + _pick(("", "/", "/en/home"), rng)
    if luck < twin:
        return domain.split(".")[0] + "." + _pick([s for s, _ in words.countries.values()], rng)
    return _typo(domain.split(".")[0], rng) + ".com" if rng.random() < 0.5 else "get" + domain


def _misspell(name: str, words: Vocabulary, rng: np.random.Generator) -> str:
    """One change of a name that people make, sometimes two."""
    changes = rng.permutation(len(_CHANGES))[: 1 + (rng.random() < 0.25)]
    for change in changes:
        name = _CHANGES[change](name, words, rng)
    return name


def _legal(name: str, words: Vocabulary, rng: np.random.Generator) -> str:
    forms = sorted({f for _, f in words.countries.values() for f in f}, key=len, reverse=True)
    for form in forms:
        if name.endswith(" " + form):
            return name.removesuffix(" " + form).rstrip(",")
    _, own = words.countries[_pick(list(words.countries), rng)]
    return name + _pick((" ", ", "), rng) + _pick(own, rng)


def _shortened(name: str, words: Vocabulary, rng: np.random.Generator) -> str:
    for word, short in words.short.items():
        if word in name:
            return name.replace(word, short)
    return _typo(name, rng)


def _typo(name: str, rng: np.random.Generator) -> str:
    place = int(rng.integers(1, max(len(name) - 1, 2)))
    kind, letter = rng.integers(0, 4), chr(97 + rng.integers(0, 26))
    tail = name[place + 1 :]
    return (
        name[:place] + tail,
        name[:place] + letter + name[place:],
        name[:place] + letter + tail,
        name[:place] + tail[:1] + name[place : place + 1] + tail[1:],
    )[kind]


def _plain(name: str, words: Vocabulary, rng: np.random.Generator) -> str:
    import unicodedata

    bare = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return bare if bare != name else name.upper()


_CHANGES: tuple[Callable[[str, Vocabulary, np.random.Generator], str], ...] = (
    _legal,
    _legal,
    _shortened,
    lambda name, words, rng: _typo(name, rng),
    lambda name, words, rng: _typo(name, rng),
    lambda name, words, rng: name.upper() if rng.random() < 0.5 else name.lower(),
    _plain,
    lambda name, words, rng: name.replace("&", "and") if "&" in name else name.replace(" ", "-", 1),
    lambda name, words, rng: name.replace(" ", "") if rng.random() < 0.3 else name.replace(" ", "  ") + " ",
    lambda name, words, rng: " ".join(reversed(name.split(" "))) if name.count(" ") == 1 else name.replace(".", ""),
)


def _pick(values: object, rng: np.random.Generator) -> str:
    return values[int(rng.integers(0, len(values)))]  # type: ignore[arg-type, index]


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    numbers = ("employees", "annual_revenue", "founded_year")
    kinds = {c: "float64" if c in numbers else "str" for c in frame if c != "entity"}
    return frame.assign(region=None).astype({**kinds, "region": "str"})
