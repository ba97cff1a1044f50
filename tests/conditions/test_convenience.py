"""A whole ``when`` table, asked at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.contracts import Condition, Occasion, Verdict
from cdr_plugin.convenience import RECHECK_S, SENT, Convenience, combined, last_done_s, note_done
from cdr_plugin.plugins import Plugins, installed
from cdr_plugin.tier_state import TierState


class Told(Condition):
    """Says what it is told to."""

    def __init__(self, name: str, answer: Callable[[Occasion], Verdict]) -> None:
        self.name = name
        self._answer = answer

    def check(self, value: Any) -> None:
        pass

    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        return self._answer(occasion)


class With(Plugins):
    """Plugins with some more conditions."""

    def __init__(self, **answers: Callable[[Occasion], Verdict]) -> None:
        super().__init__()
        self._told = {name: Told(name, answer) for name, answer in answers.items()}

    def condition(self, name: str) -> Condition:
        return self._told.get(name) or super().condition(name)


def convenience(**answers: Callable[[Occasion], Verdict]) -> Convenience:
    return Convenience(With(**answers), dict.fromkeys(answers, True))


def test_without_conditions_it_is_always_convenient() -> None:
    assert Convenience(installed(), {}).ask(None).convenient


def test_all_must_agree_and_every_one_that_does_not_is_named() -> None:
    verdict = combined(
        [
            Verdict(False, "waiting for mains power"),
            Verdict(True, ask_again_s=5),
            Verdict(False, "waiting for the window Sat (opens Sat 00:00)", 7200),
        ]
    )
    assert verdict == Verdict(False, "waiting for mains power; waiting for the window Sat (opens Sat 00:00)", 7200)


def test_while_all_agree_the_first_that_may_end_says_when_to_ask_again() -> None:
    assert combined([Verdict(True, ask_again_s=90), Verdict(True, ask_again_s=30)]) == Verdict(True, ask_again_s=30)


def test_conditions_are_asked_at_the_same_time() -> None:
    both = threading.Barrier(2)

    def wait(_: Occasion) -> Verdict:
        both.wait(timeout=60)
        return Verdict(True)

    asked = Convenience(With(a=wait, b=wait), {"a": True, "b": True})
    assert asked.ask(None).convenient


def test_a_condition_that_fails_is_not_convenient_and_ends_nothing() -> None:
    def fail(_: Occasion) -> Verdict:
        raise ZeroDivisionError("oops")

    verdict = convenience(broken=fail, fine=lambda _: Verdict(True)).ask(None)
    assert verdict.reason == "waiting for the condition 'broken', which failed: oops"


def test_a_condition_that_hangs_does_not_hold_anybody() -> None:
    end = threading.Event()

    def hang(_: Occasion) -> Verdict:
        end.wait()
        return Verdict(True)

    try:
        verdict = Convenience(With(hanging=hang), {"hanging": True}, answer_s=0.01).ask(None)
    finally:
        end.set()
    assert verdict.reason == "waiting for the condition 'hanging', which does not answer"


def test_a_plugin_that_is_gone_since_the_configuration_was_read_is_named() -> None:
    verdict = Convenience(installed(), {"gone": 1}).ask(None)
    assert "'gone', which failed: no plugin provides the condition" in verdict.reason


def test_the_occasion_says_what_the_work_is() -> None:
    seen: list[Occasion] = []

    def look(occasion: Occasion) -> Verdict:
        seen.append(occasion)
        return Verdict(True)

    asked = Convenience(With(x=look), {"x": 1}, ["/a"], clock=lambda: 5.0)
    asked.ask(3.0)
    asked.ask(None, is_under_way=True)
    assert [(o.now_s, o.last_done_s, o.storages, o.is_under_way) for o in seen] == [
        (5.0, 3.0, ["/a"], False),
        (5.0, None, ["/a"], True),
    ]


def test_a_storage_answers_when_somebody_looks_for_an_object(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, convenient in (("there", True), ("absent", False)):
        asked = Convenience(installed(), {"reachable": True}, [str(tmp_path / name)])
        assert asked.ask(None).convenient is convenient


def test_while_work_goes_on_it_is_asked_again_now_and_then() -> None:
    answers: Iterator[Verdict] = iter([Verdict(True), Verdict(False, "waiting for x")])
    seen: list[Occasion] = []
    now_s = 100.0

    def next_answer(occasion: Occasion) -> Verdict:
        seen.append(occasion)
        return next(answers)

    may_go_on = convenience(x=next_answer).while_working(lambda: now_s)
    said = []
    for _ in range(5):
        said.append(may_go_on().reason)
        now_s += RECHECK_S / 2
    assert said == ["", "", "", "", "waiting for x"]
    assert [occasion.is_under_way for occasion in seen] == [True, True]


@pytest.mark.parametrize("moment_s", [0.0, 1_764_000_000.25])
def test_when_it_was_done_is_remembered(tmp_path: Path, moment_s: float) -> None:
    state = TierState(tmp_path, "", 1)
    assert last_done_s(state, SENT) is None
    note_done(state, SENT, moment_s)
    state.close()
    again = TierState(tmp_path, "", 1)
    assert last_done_s(again, SENT) == moment_s
    again.close()
