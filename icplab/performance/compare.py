"""x"""


def compare_standardised(): ...
