"""Cases 75 to 100 of the bad-input catalogue: words that mean nothing or too much, and tables that do not mean what they say."""

from __future__ import annotations

from tests.catalogue.case import (
    ACCS,
    OPPS,
    Case,
    Said,
    all_of,
    cells,
    further,
    other,
    put,
    settings,
    table,
    text,
)

STAGES = '[values.opportunities.status]\n"Closed Won" = "won"\n"Closed Lost" = "lost"\n"Demo" = "open"'
STAGE_OF = {"won": "Closed Won", "lost": "Closed Lost", "open": "Demo"}
SUBSCRIPTIONS = "subscription_id,account_id,started_at,ended_at,mrr\nS1,A01,2023-01-01,{},100\n{},A01,2023-06-01,,100"
SPEND = "month,channel,amount\n2023-01-01,web,100\n{}2023-03-01,web,100"
PLAN = "period,metric,segment,target\n2024,won,{},5"
KEY = "ghp_" + "a1B2" * 9  # the shape of a token, and none
ODD_TEXTS = {
    82: ("formulas", "=cmd|' /C calc'!A0", "+49 is no number", "@SUM(A1)", "-1+1"),
    83: ("markup and escapes", "<script>alert(1)</script>", "[x](javascript:alert(1))", "$x$ and `y`", "a\\x1b[31m"),
    85: ("code of other languages", "'; DROP TABLE accounts; --", "__import__('os')", "{{7*7}}", "${HOME}"),
}


def _one_class(workspace) -> None:
    workspace.tables[OPPS] = [r for r in workspace.tables[OPPS] if r["status"] != "lost"]


def _few(workspace) -> None:
    workspace.tables[OPPS] = [r for r in workspace.tables[OPPS] if int(r["opportunity_id"][1:]) <= 40]


def _stages(workspace) -> None:
    for row in workspace.tables[OPPS]:
        row["status"] = STAGE_OF[row["status"]]


CASES = (
    Case(
        75,
        "word for a missing value",
        (Said("ICP-R075", column="amount", at="O010"),),
        each=put(amount="N/A"),
        key="O010",
        twin=cells(OPPS, "O010", amount=""),
    ),
    Case(
        75,
        "error of a spreadsheet in a text",
        (Said("ICP-R075", column="source", at="O010"),),
        each=put(source="#REF!"),
        key="O010",
        twin=cells(OPPS, "O010", source=""),
    ),
    Case(
        75,
        "NA, None and Unknown are values",
        breaks=all_of(
            cells(OPPS, "O007", source="None"), cells(OPPS, "O009", source="Unknown"), cells(ACCS, "A07", country="NA")
        ),
        twin=all_of(
            cells(OPPS, "O007", source="None"), cells(OPPS, "O009", source="Unknown"), cells(ACCS, "A07", country="NA")
        ),
    ),
    Case(
        76,
        "status that is not mapped",
        (Said("ICP-E076", column="status", at="O007", fix="[values.opportunities.status]"),),
        each=put(status="Won "),
        mend=settings('[values.opportunities.status]\n"Won " = "won"'),
        ledger=(("quarantined", 1),),
    ),
    Case(
        76,
        "renamed stage",
        (Said("ICP-E076", column="status", at="O007", fix='"Signed" = "…"'),),
        before=all_of(_stages, settings(STAGES)),
        each=put(status="Signed"),
        mend=lambda w: setattr(w, "settings", w.settings + '"Signed" = "won"\n'),
        ledger=(("quarantined", 1),),
    ),
    Case(
        76,
        "status missing",
        (Said("ICP-E076", column="status", at="O007", fix='"" = "open"'),),
        each=put(status=""),
        ledger=(("quarantined", 1),),
    ),
    Case(
        77,
        "one stage mapped both ways",
        (Said("ICP-E077", file="icplab.toml", column="values.opportunities.status", fix="say which one holds"),),
        before=all_of(_stages, settings(STAGES)),
        breaks=lambda w: setattr(w, "settings", w.settings + '"closed won" = "lost"\n'),
        mend=lambda w: setattr(w, "settings", STAGES),
    ),
    Case(
        77,
        "status and flag contradict each other",
        (Said("ICP-E077", column="status", at="O007", fix="ignore"), Said("ICP-W028", fix="ignore")),
        breaks=all_of(
            further(OPPS, "is_won", lambda i, r: "yes" if r["status"] == "won" else "no"),
            cells(OPPS, "O007", is_won="no"),
        ),
        mend=settings('[sources.opportunities]\nignore = ["is_won"]'),
        ledger=(("quarantined", 1),),
    ),
    Case(
        78,
        "members of a list twice",
        (Said("ICP-R078", column="stack", at="A09", table=ACCS),),
        each=put(stack="crm; ;crm"),
        table=ACCS,
        key="A09",
        twin=cells(ACCS, "A09", stack="crm"),
    ),
    Case(
        79,
        "very many levels",
        (Said("ICP-W079", fix="ignore"),),
        breaks=further(OPPS, "note", lambda i, r: f"n{i}"),
        patch=(("icplab.intake.checks.MANY_LEVELS", 100),),
    ),
    Case(
        79,
        "very many numbers are no levels",
        breaks=further(OPPS, "score", lambda i, r: str(i)),
        twin=further(OPPS, "score", lambda i, r: str(i)),
        patch=(("icplab.intake.checks.MANY_LEVELS", 100),),
    ),
    Case(
        80,
        "label in another spelling",
        (Said("ICP-W080", column="industry", table=ACCS, fix='"retail" = "Retail"'),),
        breaks=cells(ACCS, "A08", industry="retail"),
        table=ACCS,
    ),
    Case(
        80,
        "slip of a known word",
        (Said("ICP-W080", column="industry", table=ACCS, fix="if it is a slip"),),
        breaks=cells(ACCS, "A08", industry="Retial"),
        table=ACCS,
    ),
    *(
        Case(
            81,
            f"invisible or decomposed: {given!a}",
            (Said("ICP-R081", column="name", at="A07", table=ACCS),),
            each=lambda row, g=given: row.update(name=g.format(row["name"])),
            table=ACCS,
            key="A07",
        )
        for given in ("\u202e{}", "{}\u200b", "\u00a0{} ")
    ),
    Case(
        81,
        "letters and marks apart",
        (Said("ICP-R081", column="country", at="A04", table=ACCS),),
        breaks=cells(ACCS, "A04", country="Zu\u0308rich"),
        table=ACCS,
    ),
    Case(
        81,
        "letters that look alike",
        (Said("ICP-W081", column="name", at="A07", table=ACCS, fix="type the word again"),),
        each=lambda row: row.update(name=row["name"].replace("a", "\u0430", 1)),
        table=ACCS,
        key="A07",
    ),
    *(
        Case(
            number,
            f"{what} are kept as text: {given}",
            each=put(team_size=given),
            twin=cells(OPPS, "O007", team_size=given),
        )
        for number, (what, *texts) in ODD_TEXTS.items()
        for given in texts
    ),
    Case(
        84,
        "giant cell",
        (Said("ICP-E084", fix="shorten it", line=8),),
        breaks=text(lambda t: t.replace("O007,", "O007" + "x" * (1 << 20) + ",")),
        shuffles=False,
    ),
    Case(
        86,
        "e-mail address in a text",
        (Said("ICP-W086", column="team_size", at="O007", fix="ignore"),),
        each=put(team_size="ask jo.doe@firm.example"),
        twin=cells(OPPS, "O007", team_size="ask jo.doe@firm.example"),
    ),
    Case(
        86,
        "phone number in a text",
        (Said("ICP-W086", column="team_size", at="O007", fix="ignore"),),
        each=put(team_size="call +49 (30) 123 456-78"),
        twin=cells(OPPS, "O007", team_size="call +49 (30) 123 456-78"),
    ),
    Case(
        87,
        "token in a cell",
        (Said("ICP-E087", column="team_size", at="O007", fix="ignore"),),
        each=put(team_size=f"key {KEY}"),
        ledger=(("quarantined", 1),),
    ),
    Case(
        87,
        "password in the settings",
        (Said("ICP-E087", file="icplab.toml", column="workspace.name", fix="environment variable"),),
        breaks=settings('[workspace]\nname = "postgresql://me:secret@host/crm"'),
        mend=lambda w: setattr(w, "settings", ""),
    ),
    Case(
        88,
        "won ones only",
        (Said("ICP-W088", column="status", fix="export the lost ones"),),
        breaks=_one_class,
        twin=_one_class,
    ),
    Case(89, "few of each", (Said("ICP-W089", column="status", fix="longer history"),), breaks=_few, twin=_few),
    Case(90, "one value throughout", (Said("ICP-W090", fix="ignore"),), breaks=further(OPPS, "unit", lambda i, r: "x")),
    Case(91, "empty throughout", (Said("ICP-W091", fix="ignore"),), breaks=further(OPPS, "unit", lambda i, r: "")),
    Case(
        92,
        "filled for won ones only",
        (Said("ICP-W092", fix="ignore"),),
        breaks=further(OPPS, "handover", lambda i, r: ("fast", "slow")[i % 4 > 1] if r["status"] == "won" else ""),
    ),
    Case(
        93,
        "months without cost",
        (Said("ICP-W093", column="month", table="spend", fix="amount 0"),),
        breaks=table("spend", SPEND.format("")),
        twin=table("spend", SPEND.format("")),
    ),
    Case(
        93,
        "months with no cost said",
        breaks=table("spend", SPEND.format("2023-02-01,web,0\n")),
        twin=table("spend", SPEND.format("2023-02-01,web,0\n")),
    ),
    Case(
        94,
        "segment that the playbook does not know",
        (Said("ICP-E094", column="segment", table="targets", at="*1", fix="add the segment to playbook.toml"),),
        before=other("playbook.toml", "[segments.S1]\nowner = 'x'\n"),
        breaks=table("targets", PLAN.format("S7")),
        table="targets",
        ledger=(("quarantined", 1),),
    ),
    Case(
        95,
        "ended before it started",
        (Said("ICP-Q095", column="ended_at", table="subscriptions", at="S1", fix="correct the dates"),),
        breaks=table("subscriptions", SUBSCRIPTIONS.format("2022-12-31", "S2")),
        twin=table("subscriptions", "\n".join(SUBSCRIPTIONS.format("", "S2").splitlines()[::2])),
        table="subscriptions",
        ledger=(("quarantined", 1),),
    ),
    Case(
        96,
        "periods that overlap",
        (Said("ICP-W096", column="started_at", table="subscriptions", at="S2", fix="end the earlier one"),),
        breaks=table("subscriptions", SUBSCRIPTIONS.format("2023-12-31", "S2")),
        table="subscriptions",
    ),
    Case(
        97,
        "period of no length",
        (Said("ICP-E097", column="ended_at", table="subscriptions", at="S1", fix="correct the dates"),),
        breaks=table("subscriptions", SUBSCRIPTIONS.format("2023-01-01", "S2")),
        table="subscriptions",
        ledger=(("quarantined", 1),),
    ),
    Case(98, "as-of date before the last record", breaks=settings("[workspace]\nas_of = 2023-06-30")),
    Case(
        99,
        "one account under two segments",
        (Said("ICP-E099", column="segment", table="market", at="A07", fix="one segment per account", count=2),),
        breaks=table("market", "account_id,name,segment\nA07,x,S1\nA08,y,S1\nA07,x,S2"),
        table="market",
        ledger=(("quarantined", 2),),
    ),
    Case(
        100,
        "unknown key",
        (Said("ICP-E100", file="icplab.toml", column="sources.opportunities.delimeter", fix="correct ["),),
        breaks=settings('[sources.opportunities]\ndelimeter = ";"'),
        mend=lambda w: setattr(w, "settings", ""),
    ),
    Case(
        100,
        "wrong type",
        (Said("ICP-E100", file="icplab.toml", column="plan.max_segments", fix="correct ["),),
        breaks=settings('[plan]\nmax_segments = "five"'),
        mend=lambda w: setattr(w, "settings", "[plan]\nmax_segments = 5"),
    ),
    Case(
        100,
        "key twice",
        (Said("ICP-E100", file="icplab.toml", fix="correct the line"),),
        breaks=settings("[plan]\nmax_segments = 5\nmax_segments = 6"),
        mend=lambda w: setattr(w, "settings", "[plan]\nmax_segments = 5"),
    ),
    Case(
        100,
        "value out of range",
        (Said("ICP-E100", file="icplab.toml", column="plan.max_segments", fix="correct ["),),
        breaks=settings("[plan]\nmax_segments = 99"),
        mend=lambda w: setattr(w, "settings", ""),
    ),
    Case(
        100,
        "date format that is none",
        (Said("ICP-E100", file="icplab.toml", column="calendar.date_format", fix="%d/%m/%Y"),),
        breaks=settings('[calendar]\ndate_format = "%Q"'),
        mend=lambda w: setattr(w, "settings", ""),
    ),
    Case(
        100,
        "mapped column that no table has",
        (Said("ICP-E100", file="icplab.toml", column="amout", fix="correct [columns.contacts]"),),
        breaks=settings('[columns.contacts]\namout = "x"'),
        mend=lambda w: setattr(w, "settings", ""),
    ),
    Case(
        100,
        "excluded trait misspelt",
        (Said("ICP-E100", file="icplab.toml", column="plan.excluded", fix="correct [plan]"),),
        breaks=settings('[plan]\nexcluded = ["industri"]'),
        mend=lambda w: setattr(w, "settings", '[plan]\nexcluded = ["industry"]'),
    ),
    Case(
        100,
        "trait that no column is",
        (Said("ICP-W100", file="icplab.toml", column="traits.zzz_handover", fix="export the column"),),
        breaks=settings('[traits.zzz_handover]\nrole = "forbidden"'),
        mend=lambda w: setattr(w, "settings", ""),
    ),
)
