"""Reads the command line, calls one function per command, makes messages and exit codes.

Everything beyond the parser is imported by the command that needs it, so that `icplab --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys

TYPE_CHECKING = False  # as typing's, which would have to be loaded for it
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import NoReturn

EPILOG = """exit codes: 0 done · 1 check --strict with warnings · 2 bad input or settings · 3 a notebook failed (its page is
kept and named) · 4 a run does not verify · 75 another run is writing · 130 interrupted"""
BAD_USAGE, INTERRUPTED, TERMINATED = 2, 130, 143
CRASHED = 70
"""sysexits EX_SOFTWARE: a bug in icplab, never something the user did."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the nearest name, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        _complain(f"{self._in_words(message)}\nSee: {self.prog} --help")
        raise SystemExit(BAD_USAGE)

    def parse_known_args(self, args=None, namespace=None):
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [o for action in self._actions for o in action.option_strings]
            self.error(f'"{unknown[0]}" is not known here{_nearest(unknown[0].split("=")[0], options)}')
        return parsed, unknown

    def _in_words(self, message: str) -> str:
        for action in self._actions:
            if (
                action.choices
                and "invalid choice" in message
                and message.startswith(f"argument {action.metavar or action.dest}")
            ):
                given = message.split("'")[1]
                return f'"{given}" is not a command{_nearest(given, action.choices)}'
        return message


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Users never see a traceback for something they did."""
    options = build_parser().parse_args(argv)
    _end_on_sigterm()
    from icplab.core.errors import ContractBroken, IcplabError

    try:
        return options.call(options)
    except ContractBroken as error:
        return _bug(error)
    except IcplabError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _complain(f"{error.filename or 'the operating system'}: {error.strerror or error}")
        return BAD_USAGE
    except Exception as error:
        return _bug(error)


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(
        prog="icplab",
        description="From CRM exports to segments, ideal customer profiles, calibrated account tiers and a quarterly report.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.set_defaults(call=_version_or_help(parser))
    commands = parser.add_subparsers(metavar="command", title="commands", parser_class=Parser)
    for add in (
        _add_run,
        _add_check,
        _add_init,
        _add_simulate,
        _add_score,
        _add_export,
        _add_compare,
        _add_verify,
        _add_decide,
        _add_lab,
    ):
        add(commands)
    return parser


def _command(commands: argparse._SubParsersAction, name: str, call: Callable, help: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
    parser.set_defaults(call=call)
    return parser


def _add_run(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "run", _run, "the quarterly run: check, seven notebooks, pages, council pack, files")
    parser.add_argument("workspace", type=_path, metavar="WORKSPACE", help="folder of exports")
    parser.add_argument(
        "--as-of",
        default="",
        metavar="DATE",
        help="date everything is computed as known on; default the last in the data",
    )
    parser.add_argument("--out", type=_path, metavar="DIR", help="folder of this run; default reports/<quarter>")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="NOTEBOOK.PARAMETER=VALUE",
        help="a notebook's parameter",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NOTEBOOK",
        help="run this one (repeatable); published as a partial run",
    )
    parser.add_argument(
        "--from",
        default="",
        dest="start",
        metavar="NOTEBOOK",
        help="keep what is finished before this one, run it and all later",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the finished steps of an interrupted run on the same input"
    )
    parser.add_argument(
        "--previous", type=_path, metavar="RUN", help="run to compare with; default the latest earlier one beside --out"
    )
    parser.add_argument(
        "--engine",
        default="duckdb",
        metavar="ENGINE",
        help="what computes the account table: duckdb (default), spark, or a Spark master such as spark://host:7077",
    )


def _add_check(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "check", _check, "read and check everything; print the ledger and every failure")
    parser.add_argument("workspace", type=_path, metavar="WORKSPACE")
    parser.add_argument("--strict", action="store_true", help="exit 1 when there are warnings")
    parser.add_argument("--all", action="store_true", help="print every message, also where there are very many")


def _add_init(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "init", _init, "a workspace to fill in, with commented settings and templates")
    parser.add_argument("folder", type=_path, metavar="DIR")
    parser.add_argument(
        "--from",
        default="csv",
        choices=["csv", "hubspot", "salesforce"],
        dest="source",
        help="where the exports come from: EXPORT.md then says what to export",
    )


def _add_simulate(commands: argparse._SubParsersAction) -> None:
    parser = _command(
        commands, "simulate", _simulate, "a market with planted truth, as a workspace; the truth goes to DIR/truth"
    )
    parser.add_argument("folder", type=_path, metavar="DIR")
    parser.add_argument("--accounts", type=int, default=3000, metavar="N", help="number of accounts (default 3000)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="the same seed gives the same market")
    parser.add_argument("--scenario", default="clean", metavar="NAME", help="what is planted (default clean)")
    parser.add_argument(
        "--layout",
        default="canonical",
        choices=["canonical", "salesforce", "hubspot"],
        help="how the exports are laid out",
    )


def _add_score(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "score", _score, "apply a frozen model to new accounts")
    parser.add_argument(
        "accounts", type=_path, metavar="ACCOUNTS", help="file of accounts, in any layout that a run reads"
    )
    parser.add_argument("--model", type=_path, required=True, metavar="FILE", help="model.json of a run")
    parser.add_argument("--out", type=_path, metavar="FILE", help="default: beside ACCOUNTS, with _scored in its name")
    parser.add_argument("--format", choices=["csv", "parquet", "salesforce", "hubspot"], default="csv")
    parser.add_argument("--workspace", type=_path, help="folder whose icplab.toml maps the columns of accounts")


def _add_export(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "export", _export, "the import files of a run; the dry run prints what would change")
    parser.add_argument("run", type=_path, metavar="RUN")
    parser.add_argument(
        "--to", required=True, choices=["hubspot", "salesforce", "pdf"], help="a CRM, or the council pack to print"
    )
    parser.add_argument(
        "--out", type=_path, metavar="PATH", help="folder of the files, default ./<target>-<run>; or the PDF"
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing, print the difference")
    parser.add_argument("--against", type=_path, metavar="PREVIOUS", help="run whose files were imported before")


def _add_compare(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "compare", _compare, "two runs side by side")
    parser.add_argument("before", type=_path, metavar="RUN_A")
    parser.add_argument("after", type=_path, metavar="RUN_B")
    parser.add_argument("--page", type=_path, metavar="FILE.html", help="write them as a page, too")


def _add_verify(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "verify", _verify, "recompute every hash of a run")
    parser.add_argument("run", type=_path, metavar="RUN")


def _add_decide(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "decide", _decide, "append a council decision to the workspace's register")
    parser.add_argument("workspace", type=_path, metavar="WORKSPACE")
    parser.add_argument("--what", required=True, help="what was decided")
    parser.add_argument("--why", required=True, help="for which reason")
    parser.add_argument("--evidence", default="", help="what it rests on, such as a finding and its run")
    parser.add_argument("--who", required=True, help="who answers for it")
    parser.add_argument("--review", default="", metavar="DATE", help="when it is looked at again")
    parser.add_argument(
        "--expect", action="append", default=[], metavar="KPI=VALUE", help="what should come of it (repeatable)"
    )


def _add_lab(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "lab", _lab, "JupyterLab on the notebooks, reading this workspace")
    parser.add_argument("workspace", type=_path, metavar="WORKSPACE")
    parser.add_argument("--port", type=int, default=8888)
    parser.add_argument("--no-browser", action="store_true", help="print the address only")


def _run(options: argparse.Namespace) -> int:
    from icplab.run.pipeline import run_quarter
    from icplab.run.plan import RunOptions

    index = run_quarter(
        RunOptions(
            workspace=options.workspace,
            as_of=options.as_of,
            out=options.out,
            overrides=tuple(options.overrides),
            only=_split(options.only),
            start=options.start,
            resume=options.resume,
            previous=options.previous,
            engine=options.engine,
        )
    )
    print(_from_here(index))
    return 0


def _check(options: argparse.Namespace) -> int:
    from icplab.intake import check_workspace

    report = check_workspace(options.workspace)
    print(report.as_text(everything=options.all), end="", file=sys.stderr if report.stops else sys.stdout)
    return report.exit_code(strict=options.strict)


def _init(options: argparse.Namespace) -> int:
    from icplab.run.starter import describe_exports, init_workspace

    for path in init_workspace(options.folder, options.source):
        print(_from_here(path))
    seen = describe_exports(options.folder)
    if seen:
        print("Recognised:", *seen, sep="\n  ")
        print(f"Look through icplab.toml, then: icplab check {options.folder}")
        return 0
    print(f"See EXPORT.md, put your exports into {options.folder}, then: icplab check {options.folder}")
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from icplab.simulate import simulate_market, write_market

    market = simulate_market(accounts=options.accounts, seed=options.seed, scenario=options.scenario)
    folder = write_market(market, options.folder, options.layout)
    print(
        f"{_from_here(folder)}: a workspace of {options.accounts:,} accounts; what was planted is in {_from_here(folder / 'truth')}"
    )
    return 0


def _score(options: argparse.Namespace) -> int:
    from icplab.core.config import read_settings
    from icplab.core.model import read_model
    from icplab.run.score import describe_scores, score_file, score_large, write_import, write_scores
    from icplab.run.score_large import is_large

    model = read_model(options.model)
    plain = options.format in ("csv", "parquet")
    name = f"scored.{options.format}" if plain else f"{options.format}.csv"
    out = options.out or options.accounts.with_name(f"{options.accounts.stem}_{name}")
    if options.format == "parquet" and model.usable and is_large(options.accounts):
        print(score_large(options.accounts, model, out))
    else:
        scored = score_file(options.accounts, model, read_settings(options.workspace) if options.workspace else None)
        write_scores(scored, out, options.format) if plain else write_import(scored, model, out, options.format)
        print(describe_scores(scored, model))
    print(_from_here(out))
    return 0


def _export(options: argparse.Namespace) -> int:
    from icplab.run.export import describe_export, export_files

    if options.to == "pdf":
        return _print_pack(options)
    if options.dry_run or options.against:
        print(describe_export(options.run, options.to, options.against))
    if not options.dry_run:
        target = options.out or _path(f"{options.to}-{options.run.resolve().name}")
        for path in export_files(options.run, options.to, target):
            print(_from_here(path))
    return 0


def _print_pack(options: argparse.Namespace) -> int:
    from icplab.run.pdf import print_pack

    target = options.out or _path(f"{options.run.resolve().name}.pdf")
    print(_from_here(target if options.dry_run else print_pack(options.run, target)))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from icplab.run.compare import describe_comparison, write_comparison

    print(describe_comparison(options.before, options.after))
    if options.page:
        print(_from_here(write_comparison(options.before, options.after, options.page)))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from icplab.run.publish import heal_beside, verify_run

    heal_beside(options.run)
    manifest = verify_run(options.run)
    print(f"{options.run}: {len(manifest['files'])} files are as published (run {manifest['run_id'][:12]})")
    return 0


def _decide(options: argparse.Namespace) -> int:
    from icplab.run.decisions import append_decision, parse_expectations

    entry = append_decision(
        options.workspace,
        what=options.what,
        why=options.why,
        who=options.who,
        evidence=options.evidence,
        review=options.review,
        expect=parse_expectations(options.expect),
    )
    print(f"{options.workspace / 'decisions.jsonl'}: decision of {entry['at']} written ({entry['hash'][:12]})")
    return 0


def _lab(options: argparse.Namespace) -> int:
    from icplab.run.lab import open_lab

    return open_lab(options.workspace, options.port, browser=not options.no_browser)


def _version_or_help(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    def call(options: argparse.Namespace) -> int:
        if options.version:
            from importlib.metadata import version

            print(f"icplab {version('icplab')}")
            return 0
        parser.print_help()
        return 0

    return call


def _split(given: Sequence[str]) -> tuple[str, ...]:
    """`--only a,b --only c` as (a, b, c)."""
    return tuple(name.strip() for text in given for name in text.split(",") if name.strip())


def _path(text: str) -> Path:
    """`pathlib` is only loaded by a command that is given a path; it would be a tenth of the time of `--help`."""
    from pathlib import Path

    return Path(text)


def _from_here(path: Path) -> str:
    from icplab.run.progress import from_here

    return from_here(path)


def _nearest(given: str, allowed: object) -> str:
    import difflib

    match = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)  # type: ignore[call-overload]
    return f', did you mean "{match[0]}"?' if match else ""


def _complain(text: str) -> None:
    print(f"icplab: {text}", file=sys.stderr)


def _bug(error: Exception) -> int:
    """A defect of icplab: the traceback is what whoever mends it needs."""
    import traceback

    traceback.print_exception(error)
    _complain("this is a defect of icplab, not something you did; please report it with the lines above")
    return CRASHED


def _end_on_sigterm() -> None:
    """SIGTERM unwinds like Ctrl-C, so that kernels end and raw tables are removed."""
    import signal

    def end(*_: object) -> NoReturn:
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, end)


if __name__ == "__main__":
    raise SystemExit(main())
