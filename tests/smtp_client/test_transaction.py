"""The transaction as dialogs: what the peer answers (left), what is written (right)."""

import pytest

from relay.smtp.client.envelope import plan
from relay.smtp.client.features import Features
from relay.smtp.client.model import Outgoing, OutgoingRecipient, Stage
from relay.smtp.client.transaction import Transaction, ViolationError
from relay.smtp.reply import Reply

CONTENT = "<content>"


def begin(count=1, *, pipelining=True, reset=False):
    recipients = [OutgoingRecipient(f"{n}@y.test") for n in range(count)]
    envelope = plan(Outgoing("s@ext.test", recipients, b"x\r\n", 3), Features())
    return Transaction(envelope, pipelining=pipelining, reset=reset)


def reply(text):
    code, _, rest = text.partition(" ")
    return Reply(int(code), "", rest)


def play(transaction, replies):
    """Feed replies; returns all that is written."""
    written = [transaction.begin()]
    for text in replies:
        assert not transaction.done, f"done before {text}"
        assert transaction.expected >= 1
        out = transaction.receive(reply(text))
        if out is not None:
            written.append(out)
        if transaction.content_due:
            assert transaction.expected == 0
            written.append(CONTENT.encode())
            transaction.content_written()
    return [line for octets in written for line in octets.decode().splitlines()]


MAIL, R0, R1, R2 = "MAIL FROM:<s@ext.test>", "RCPT TO:<0@y.test>", "RCPT TO:<1@y.test>", "RCPT TO:<2@y.test>"

ONE, TWO, THREE = [MAIL, R0, "DATA"], [MAIL, R0, R1, "DATA"], [MAIL, R0, R1, R2, "DATA"]

# recipients, replies, written (the same with PIPELINING and without), final codes, whether RSET must follow
DIALOGS = [
    (1, ["250", "250", "354", "250"], [*ONE, CONTENT], [250], False),
    (1, ["250", "250", "354", "550"], [*ONE, CONTENT], [550], False),
    (1, ["250", "250", "354", "451"], [*ONE, CONTENT], [451], False),
    (1, ["250", "250", "451"], ONE, [451], True),
    (3, ["250", "250", "450", "550", "354", "250"], [*THREE, CONTENT], [250, 450, 550], False),
    (2, ["250", "251", "252", "354", "250"], [*TWO, CONTENT], [250, 250], False),
    (2, ["250", "250", "550", "552"], TWO, [552, 550], True),
    (2, ["250", "250", "552", "354", "250"], [*TWO, CONTENT], [250, 452], False),
]


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(("count", "replies", "written", "codes", "dirty"), DIALOGS)
def test_dialogs(count, replies, written, codes, dirty, pipelining):
    transaction = begin(count, pipelining=pipelining)
    assert play(transaction, replies) == written
    assert transaction.done
    assert transaction.settled
    assert [r.code for r in transaction.final()] == codes
    assert transaction.dirty is dirty
    assert not transaction.closing


def test_mail_refused_pipelined():
    transaction = begin(2)
    play(transaction, ["450 no", "503", "503", "503"])
    assert transaction.done
    assert [r.code for r in transaction.final()] == [450, 450]
    assert not transaction.dirty


def test_mail_refused_stepwise_sends_no_more():
    transaction = begin(2, pipelining=False)
    assert play(transaction, ["550 no"]) == [MAIL]
    assert [r.code for r in transaction.final()] == [550, 550]


def test_nobody_accepted_stepwise_sends_no_data():
    transaction = begin(2, pipelining=False)
    assert play(transaction, ["250", "550", "450"]) == [MAIL, R0, R1]
    assert transaction.dirty
    assert [r.code for r in transaction.final()] == [550, 450]


def test_nobody_accepted_but_data_goes_ahead():
    transaction = begin(2)
    assert play(transaction, ["250", "550", "450", "354", "250 thanks for nothing"]) == [MAIL, R0, R1, "DATA", "."]
    assert [r.code for r in transaction.final()] == [550, 450]
    assert not transaction.dirty


def test_mail_refused_but_data_goes_ahead():
    transaction = begin(1)
    assert play(transaction, ["550", "250", "354"]) == [MAIL, R0, "DATA"]
    assert transaction.done
    assert transaction.closing
    assert [r.code for r in transaction.final()] == [550]


@pytest.mark.parametrize("pipelining", [True, False])
def test_reset_comes_first(pipelining):
    transaction = begin(1, pipelining=pipelining, reset=True)
    assert play(transaction, ["250", "250", "250", "354", "250"]) == ["RSET", MAIL, R0, "DATA", CONTENT]
    assert [r.code for r in transaction.final()] == [250]


@pytest.mark.parametrize("bad", ["350", "354", "451", "550"])
def test_a_refused_reset_is_a_violation(bad):
    with pytest.raises(ViolationError):
        play(begin(reset=True), [bad])


@pytest.mark.parametrize(
    "replies",
    [
        ["354"],
        ["250", "354"],
        ["250", "250", "250"],
        ["250", "250", "300"],
        ["250", "250", "354", "354"],
        ["250", "250", "354", "334"],
    ],
)
@pytest.mark.parametrize("pipelining", [True, False])
def test_replies_out_of_place_are_violations(replies, pipelining):
    transaction = begin(pipelining=pipelining)
    with pytest.raises(ViolationError):
        play(transaction, replies)
    assert transaction.known() == [None]


# 421 at each stage: how many are known before, and what is known after
LEAVING = [
    (["421"], [None, None], Stage.MAIL),
    (["250", "421"], [None, None], Stage.RCPT),
    (["250", "550", "421"], [550, None], Stage.RCPT),
    (["250", "550", "250", "421"], [550, None], Stage.DATA),
    (["250", "550", "250", "354", "421"], [550, 421], Stage.END),
    (["250", "250", "250", "354", "421"], [421, 421], Stage.END),
    (["250", "550", "550", "421"], [550, 550], Stage.DATA),
    (["550", "421"], [550, 550], Stage.RCPT),
]


@pytest.mark.parametrize(("replies", "known", "stage"), LEAVING)
def test_421(replies, known, stage):
    transaction = begin(2)
    play(transaction, replies)
    assert transaction.done
    assert transaction.closing
    assert [r and r.code for r in transaction.known()] == known
    assert (transaction.farewell is not None) == (None in known)
    assert transaction.stage is stage


@pytest.mark.parametrize("code", ["452", "552"])
def test_a_refusal_in_the_middle_of_the_message(code):
    transaction = begin()
    for text in ("250", "250", "354"):
        transaction.receive(reply(text))
    assert transaction.content_due
    transaction.receive(reply(code))
    assert transaction.done
    assert transaction.closing
    assert [r.code for r in transaction.final()] == [int(code)]


def test_a_250_in_the_middle_of_the_message_is_no_delivery():
    transaction = begin()
    for text in ("250", "250", "354"):
        transaction.receive(reply(text))
    with pytest.raises(ViolationError):
        transaction.receive(reply("250"))
    assert transaction.known() == [None]


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ("250", Reply(552, "", "x"), 452),
        ("250", Reply(552, "5.5.3", "x"), 452),
        ("250", Reply(552, "5.3.1", "x"), 452),
        ("250", Reply(552, "5.2.2", "mailbox full"), 552),
        ("250", Reply(552, "", "#5.2.2 mailbox full"), 552),
        ("250", Reply(552, "", "4.2.2 mailbox full"), 552),
        ("550", Reply(552, "", "x"), 552),
    ],
)
def test_552_after_an_accepted_recipient(first, second, code):
    transaction = begin(2)
    transaction.receive(reply("250"))
    transaction.receive(reply(first))
    transaction.receive(second)
    known = transaction.known()[1]
    assert known is not None
    assert known.code == code


def test_expected_counts_down():
    transaction = begin(2, reset=True)
    counts = []
    for text in ("250", "250", "250", "250", "354"):
        counts.append(transaction.expected)
        transaction.receive(reply(text))
    assert counts == [5, 4, 3, 2, 1]
    assert transaction.expected == 0
