"""Reads the exports of a workspace, makes typed canonical tables, a ledger of every record, and messages one can act on."""

from icplab.intake.report import Report
from icplab.intake.single import read_accounts
from icplab.intake.take import UNDATED_AS_OF, check_workspace, default_as_of, take_in

__all__ = ["UNDATED_AS_OF", "Report", "check_workspace", "default_as_of", "read_accounts", "take_in"]
