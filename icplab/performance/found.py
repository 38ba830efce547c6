"""x"""


def findings(): ...
