"""The comparison itself: it must find what it is there to find."""

import pytest

from tests.support.ledger import Answer, Given, Ledger, compare


def ledger(answer=Answer.TAKEN, recipients=("ok-1@d.test",), reply="250 2.0.0 Ok: queued as abc", **handed):
    made = Ledger(given={"1": Given("1", recipients, answer, reply)})
    for address, times in handed.items():
        for at in times:
            made.hand({"ok": "ok-1@d.test", "no": "no-1@d.test", "sender": "s-1@back.test"}[address], at, opened=0.0)
    return made


def test_all_is_well():
    score = compare(ledger(ok=[10.0]), [])
    assert score.clean
    assert (score.acknowledged, score.doubled) == (1, 0)


def test_a_lost_message_is_found():
    assert len(compare(ledger(), [5.0]).lost) == 1


def test_what_waits_is_not_lost():
    assert compare(ledger(), [], frozenset({"ok-1@d.test"})).clean


@pytest.mark.parametrize(("fault", "excused"), [(11.0, True), (9.0, False), (13.0, False), (9.8, True)])
def test_a_double_needs_a_fault_between(fault, excused):
    score = compare(ledger(ok=[10.0, 12.0]), [fault])
    assert score.clean is excused
    assert score.doubled == excused


def test_three_deliveries_need_two_faults():
    assert not compare(ledger(ok=[10.0, 12.0, 14.0]), [11.0]).clean
    assert compare(ledger(ok=[10.0, 12.0, 14.0]), [11.0, 13.0]).clean


@pytest.mark.parametrize("answer", [Answer.REFUSED, Answer.UNSENT])
def test_mail_that_was_not_taken_must_not_arrive(answer):
    assert not compare(ledger(answer, ok=[10.0]), [5.0]).clean
    assert compare(ledger(Answer.UNKNOWN, ok=[10.0]), [5.0]).clean


def test_failed_mail_needs_its_one_dsn():
    assert len(compare(ledger(recipients=("no-1@d.test",)), []).lost) == 1
    assert compare(ledger(recipients=("no-1@d.test",), sender=[10.0]), []).clean
    assert not compare(ledger(recipients=("no-1@d.test",), sender=[10.0, 11.0]), []).clean


def test_never_delivered_and_bounced():
    assert not compare(ledger(ok=[10.0], sender=[11.0]), []).clean


def test_a_queue_id_is_given_once():
    made = ledger(ok=[10.0])
    made.given["2"] = Given("2", ("ok-2@d.test",), Answer.TAKEN, "250 2.0.0 Ok: queued as abc")
    made.hand("ok-2@d.test", 10.0, 0.0)
    assert not compare(made, []).clean


def test_invented_and_damaged_mail_is_found():
    made = ledger(ok=[10.0])
    made.hand("nobody@d.test", 10.0, 0.0)
    made.damaged.append("1")
    made.told[("abc", "ok-1@d.test")] = 2
    assert len(compare(made, []).wrong) == 3
