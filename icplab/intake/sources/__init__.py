"""Reads one source, whatever its kind (delimited, packed, workbook, Parquet, database), makes its records as text."""

from icplab.intake.sources.content import Content, content_hash, read_content
from icplab.intake.sources.held import ENDINGS, LARGEST_FILE, ending, name_without_ending
from icplab.intake.sources.rows import Connections, source_name
from icplab.intake.sources.workbook import sheet_heads

__all__ = [
    "ENDINGS",
    "LARGEST_FILE",
    "Connections",
    "Content",
    "content_hash",
    "ending",
    "name_without_ending",
    "read_content",
    "sheet_heads",
    "source_name",
]
