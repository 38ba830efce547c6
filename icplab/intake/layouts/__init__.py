"""Reads the headers of native CRM exports, makes the mapping to canonical tables that one would otherwise write by hand."""

from icplab.intake.layouts.declare import Feed, Object
from icplab.intake.layouts.recognise import SYSTEMS, Recognition, header_of, recognise, recognise_file
from icplab.intake.layouts.shape import Native

__all__ = ["SYSTEMS", "Feed", "Native", "Object", "Recognition", "header_of", "recognise", "recognise_file"]
