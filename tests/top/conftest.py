from functools import partial
from pathlib import Path

import pytest

from cdr_restic.locks import LockTimes
from tests.support.chain import Chain
from tests.support.forger import quick_chain
from tests.top.copying import with_copying


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """A chain whose top tier knows the method ``copying``."""
    monkeypatch.setattr("cdr_restic.repository.LockTimes", partial(LockTimes, settle_s=0))
    made = quick_chain(tmp_path)
    made.top.plugins = with_copying()
    return made
