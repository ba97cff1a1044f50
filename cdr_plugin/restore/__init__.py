"""Brings a version back from a repository into a folder."""

from cdr_plugin.restore.options import Overwrite, RestoreOptions, RestoreSummary
from cdr_plugin.restore.restoring import restore

__all__ = ["Overwrite", "RestoreOptions", "RestoreSummary", "restore"]
