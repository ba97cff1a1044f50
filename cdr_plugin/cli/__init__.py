"""The command ``cdr``."""
