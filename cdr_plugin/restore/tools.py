"""What the parts of one restore share."""

from __future__ import annotations

from dataclasses import dataclass

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.restore.files import FileWriter
from cdr_plugin.restore.folders import Folders
from cdr_plugin.restore.options import RestoreOptions
from cdr_plugin.restore.placing import Places
from cdr_plugin.restore.removing import Remover
from cdr_plugin.restore.rules import MetadataRules
from cdr_plugin.restore.selection import Selection
from cdr_plugin.restore.tally import Tally


@dataclass(frozen=True, slots=True)
class Tools:
    """One restore's view of repository and target, and its records."""

    reader: RepositoryReader
    options: RestoreOptions
    rules: MetadataRules
    selection: Selection
    folders: Folders
    places: Places
    files: FileWriter
    remover: Remover
    tally: Tally
