import math
import os
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioclf.audio.ledger import LedgerRow, State
from audioclf.clips.clip import Clip
from audioclf.config import FetchConfig
from audioclf.fetch.failures import FailureClass, Fault, Reason, class_of
from audioclf.fetch.retry import DAY_S, MAX_ATTEMPTS, access_of, failed_row, is_due

CLIP = Clip("a", "https://host/a", 1.5, 11.5, ("x",), "a")
NOW = 1.7e9
HERE = "0123-4567"

reasons = st.sampled_from(sorted(Reason))
waits = st.none() | st.floats(0, 7 * DAY_S)


def fail(reason, previous=None, now=NOW, retry_after_s=None, seed=0, access=HERE):
    return failed_row(CLIP, Fault(reason, "why", 500, retry_after_s), previous, now, access, random.Random(seed))


def due(row, now=NOW, access=HERE, retry=()):
    return is_due(row, now, access, frozenset(retry))


def until_final(reason):
    """Fails again whenever it is due; the rows."""
    rows = [fail(reason)]
    while rows[-1].next_retry is not None:
        assert len(rows) < 100
        rows.append(fail(reason, rows[-1], now=rows[-1].next_retry, seed=len(rows)))
    return rows


def test_a_row_says_what_happened():
    row = fail(Reason.GEO)
    expected = LedgerRow.of(CLIP, State.FAILED, failure="geo", message="why")
    assert row == replace(expected, http_status=500, access=HERE, updated=NOW)


def test_what_was_never_tried_is_due_and_what_is_there_is_not():
    assert due(None)
    for state in (State.OK, State.PARTIAL, State.SILENT):
        assert not due(LedgerRow.of(CLIP, state), retry=FailureClass)


def test_transient_failures_come_back_ever_later_and_are_given_up():
    rows = until_final(Reason.TIMEOUT)
    assert len(rows) == MAX_ATTEMPTS == rows[-1].attempts
    for n, row in enumerate(rows[:-1]):
        assert 0.5 <= (row.next_retry - row.updated) / (2 * 2**n) <= 1.5
        assert not due(row, row.next_retry - 0.1)
        assert due(row, row.next_retry)
    assert not due(rows[-1], math.inf)


@pytest.mark.parametrize(
    ("reason", "first_s"), [(Reason.UNKNOWN, 60), (Reason.CRASHED, 60), (Reason.FORBIDDEN, 3600), (Reason.NO_FORMAT, 0)]
)
def test_what_nobody_can_tell_is_given_up_after_five_attempts(reason, first_s):
    rows = until_final(reason)
    assert len(rows) == 5
    pauses = [row.next_retry - row.updated for row in rows[:-1]]
    assert all(0.5 * first_s * 2**n <= pause <= 1.5 * first_s * 2**n for n, pause in enumerate(pauses))


def test_pauses_end_at_a_day():
    row = replace(fail(Reason.FORBIDDEN), attempts=3, failure="timeout")
    row = replace(fail(Reason.TIMEOUT, row), attempts=8)
    assert fail(Reason.FORBIDDEN, row).next_retry - NOW <= 1.5 * DAY_S


def test_an_odd_failure_after_a_bad_night_is_not_the_last():
    night = replace(fail(Reason.TIMEOUT), attempts=7)
    odd = fail(Reason.UNKNOWN, night)
    assert odd.attempts == 8
    assert odd.next_retry is not None
    assert fail(Reason.UNKNOWN, odd).next_retry is None


def test_however_failures_alternate_they_end():
    row, count = None, 0
    while row is None or row.next_retry is not None:
        row, count = fail((Reason.TIMEOUT, Reason.UNKNOWN)[count % 2], row), count + 1
        assert count < 100
    assert count == MAX_ATTEMPTS


def test_the_dead_are_asked_a_second_time_a_day_later_and_never_again():
    first = fail(Reason.REMOVED)
    assert first.next_retry == NOW + DAY_S
    second = fail(Reason.PRIVATE, first, now=NOW + DAY_S)
    assert second.next_retry is None
    assert not due(second, math.inf, access="other-other")
    assert fail(Reason.REMOVED, second, now=NOW + 2 * DAY_S).next_retry is None


def test_a_second_dead_answer_before_its_time_confirms_nothing_and_does_not_put_off():
    first = fail(Reason.REMOVED)
    early = fail(Reason.REMOVED, first, now=NOW + 3600)
    assert early.next_retry == NOW + DAY_S
    again = fail(Reason.REMOVED, early, now=NOW + 19 * 3600)
    assert again.next_retry == NOW + DAY_S
    assert fail(Reason.REMOVED, again, now=NOW + 20 * 3600).next_retry is None


def test_a_dead_answer_after_another_failure_is_a_first_one():
    row = fail(Reason.TIMEOUT, fail(Reason.REMOVED), now=NOW + DAY_S)
    assert fail(Reason.REMOVED, row, now=NOW + 2 * DAY_S).next_retry == NOW + 3 * DAY_S


@pytest.mark.parametrize("reason", [reason for reason in Reason if class_of(reason) is FailureClass.SESSION])
def test_a_refused_session_spends_no_attempt(reason):
    row = fail(reason, replace(fail(Reason.TIMEOUT), attempts=4))
    assert row.attempts == 4
    assert fail(reason).attempts == 0
    assert row.next_retry - NOW == (3600 if reason is Reason.RATE_LIMITED else 6 * 3600)
    assert fail(reason, retry_after_s=30.0).next_retry == NOW + 30
    for _ in range(50):
        row = fail(reason, row)
    assert row.next_retry is not None


def test_conditional_failures_wait_for_another_access():
    row = fail(Reason.AGE, access="cookies-tools")
    assert not due(row, math.inf, access="cookies-tools")
    assert not due(row, math.inf, access="cookies-newer")
    assert due(row, NOW, access="others-tools")


def test_an_environment_given_up_waits_for_other_tools():
    row = replace(fail(Reason.NO_JS_RUNTIME, access="cookies-tools"), next_retry=None)
    assert not due(row, math.inf, access="others-tools")
    assert due(row, NOW, access="cookies-newer")


def test_environment_failures_are_due_at_the_next_call():
    assert due(fail(Reason.NO_JS_RUNTIME), NOW)


def test_a_users_broken_file_says_nothing_about_the_link():
    local = replace(LedgerRow.of(CLIP, State.FAILED, failure="truncated"), source_size=9, attempts=3)
    assert due(local)
    row = fail(Reason.REMOVED, local)
    assert (row.attempts, row.next_retry, row.source_size) == (1, NOW + DAY_S, None)


@given(reasons, st.floats(0, 2e9), st.sampled_from(FailureClass))
def test_a_class_that_the_user_asks_for_is_due_and_no_other(reason, now, kind):
    final = replace(fail(reason), next_retry=None)
    assert due(final, now, retry={kind}) is (class_of(reason) is kind)


@given(reasons, st.lists(reasons, max_size=20), waits, st.floats(0, 1e6), st.integers(0, 99))
def test_no_row_asks_again_before_the_server_wants_it_or_in_the_past(reason, before, retry_after_s, later, seed):
    row, now = None, NOW
    for earlier in before:
        row = fail(earlier, row, now, seed=seed)
        now += later
    new = fail(reason, row, now, retry_after_s, seed)
    if new.next_retry is not None:
        assert now + (retry_after_s or 0) <= new.next_retry <= now + 7 * DAY_S
    spent = class_of(reason) is not FailureClass.SESSION
    assert new.attempts == (row.attempts if row else 0) + spent


@given(st.lists(reasons, min_size=1, max_size=8), st.floats(0, 1e9), st.floats(0, 1e9))
def test_what_is_due_once_stays_due(failures, sooner, more):
    row = None
    for reason in failures:
        row = fail(reason, row)
    assert due(row, NOW + sooner) <= due(row, NOW + sooner + more)


@pytest.mark.parametrize("reason", [Reason.REMOVED, Reason.TIMEOUT, Reason.UNKNOWN])
@given(st.floats(0, 1e9))
def test_the_final_stay_final_when_asked_again(reason, later):
    final = until_final(reason)[-1]
    again = fail(reason, final, final.updated + later)
    assert again.next_retry is None


def config(**changes):
    return FetchConfig(**changes)


def test_access_changes_with_cookies_proxy_and_private_addresses_and_nothing_else(write_file):
    plain = access_of(config())
    cookies = write_file("cookies.txt", "# Netscape HTTP Cookie File\n")
    with_cookies = access_of(config(cookies=str(cookies)))
    os.utime(cookies, (NOW, NOW))  # exported anew: other values, as long as the old ones
    renewed = access_of(config(cookies=str(cookies)))
    proxied = access_of(config(proxy="http://user:secret@h:1"))
    private = access_of(config(allow_private=True))
    assert len({plain, with_cookies, renewed, proxied, private}) == 5
    assert access_of(config(workers=3, sleep=0.0, timeout=1.0)) == plain
    assert access_of(config(cookies=str(cookies))) == renewed
    assert "secret" not in proxied
    assert len({access.partition("-")[2] for access in (plain, renewed, proxied, private)}) == 1


def test_access_changes_with_the_tools(monkeypatch, tmp_path):
    before = access_of(config())
    deno = tmp_path / "deno"
    deno.write_text("#!/bin/sh\n")
    deno.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    after = access_of(config())
    assert before.partition("-")[0] == after.partition("-")[0]
    assert before != after


def test_a_proxy_of_the_environment_counts_where_none_is_configured(monkeypatch):
    before, own = access_of(config()), access_of(config(proxy="http://h:1"))
    monkeypatch.setenv("https_proxy", "http://elsewhere:1")
    assert access_of(config()) != before
    assert access_of(config(proxy="http://h:1")) == own


def test_cookies_that_are_not_there_are_as_none(tmp_path):
    for absent in (str(tmp_path / "absent"), "a\0b", "~no-such-user/cookies.txt"):
        assert access_of(config(cookies=absent)) == access_of(config())


def test_cookies_may_lie_in_the_home_folder(write_file, monkeypatch):
    monkeypatch.setenv("HOME", str(write_file("cookies.txt", "# Netscape HTTP Cookie File\n").parent))
    assert access_of(config(cookies="~/cookies.txt")) != access_of(config())
