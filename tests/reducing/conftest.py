from __future__ import annotations

import pytest

from tests.support.tiers import make_tiers_quick


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiers_quick(monkeypatch)
