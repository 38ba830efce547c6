"""The bad-input catalogue as a table of cases."""
