import pytest

from relay.smtp import parameters as p
from relay.smtp.parameters import MailParameters, RcptParameters, mail_parameters, rcpt_parameters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", MailParameters()),
        ("SIZE=0", MailParameters(size=0)),
        ("size=12345", MailParameters(size=12345)),
        ("BODY=7BIT", MailParameters()),
        ("body=8bitmime", MailParameters(eightbit=True)),
        ("SMTPUTF8", MailParameters(smtputf8=True)),
        ("RET=hdrs", MailParameters(ret="HDRS")),
        ("RET=FULL ENVID=Q+2B1", MailParameters(ret="FULL", envid="Q+2B1")),
        ("AUTH=<>", MailParameters()),
        ("AUTH=a+2Bb@c.test SIZE=1 SMTPUTF8", MailParameters(size=1, smtputf8=True)),
    ],
)
def test_mail(text, expected):
    assert mail_parameters(text) == expected


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("SIZE=-1", p.BAD_SIZE),
        ("SIZE=x", p.BAD_SIZE),
        ("SIZE=", p.BAD_SIZE),
        ("SIZE", p.BAD_SIZE),
        ("SIZE=+5", p.BAD_SIZE),
        ("SIZE=1_0", p.BAD_SIZE),
        ("SIZE=\u0663", p.BAD_SIZE),
        ("SIZE=1\u00b2", p.BAD_SIZE),
        ("SIZE=" + "9" * 21, p.BAD_SIZE),
        ("\u017fIZE=1", p.UNKNOWN_MAIL),
        ("\u017fMTPUTF8", p.UNKNOWN_MAIL),
        ("SIZE=1\u3000BODY=7BIT", p.BAD_SIZE),
        ("SIZE=1\tBODY=7BIT", p.BAD_SIZE),
        ("BODY=8B\u0131TMIME", p.BAD_BODY),
        ("RET=HDR\u017f", p.BAD_RET),
        ("SIZE=1 SIZE=1", p.DUPLICATE),
        ("BODY=7BIT BODY=8BITMIME", p.DUPLICATE),
        ("smtputf8 SMTPUTF8", p.DUPLICATE),
        ("BODY=FOO", p.BAD_BODY),
        ("BODY=BINARYMIME", p.BAD_BODY),
        ("BODY", p.BAD_BODY),
        ("SMTPUTF8=1", p.BAD_SMTPUTF8),
        ("SMTPUTF8=", p.BAD_SMTPUTF8),
        ("RET=", p.BAD_RET),
        ("RET", p.BAD_RET),
        ("RET=NONE", p.BAD_RET),
        ("ENVID=", p.BAD_ENVID),
        ("ENVID", p.BAD_ENVID),
        ("ENVID=a+2", p.BAD_ENVID),
        ("ENVID=a+2b", p.BAD_ENVID),
        ("ENVID=a=b", p.BAD_ENVID),
        ("ENVID=a+0D+0Ab", p.BAD_ENVID),
        ("ENVID=a+00", p.BAD_ENVID),
        ("ENVID=ä", p.BAD_ENVID),
        ("ENVID=" + "a" * 101, p.BAD_ENVID),
        ("AUTH=", p.BAD_AUTH),
        ("AUTH", p.BAD_AUTH),
        ("AUTH=nobody", p.BAD_AUTH),
        ("AUTH=a@b.test+3E", p.BAD_AUTH),
        ("FOO=BAR", p.UNKNOWN_MAIL),
        ("FOO", p.UNKNOWN_MAIL),
        ("=x", p.UNKNOWN_MAIL),
        ("NOTIFY=NEVER", p.UNKNOWN_MAIL),
        ("XSIZE=1", p.UNKNOWN_MAIL),
    ],
)
def test_mail_refused(text, reply):
    assert mail_parameters(text) == reply


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", RcptParameters()),
        ("NOTIFY=never", RcptParameters(notify="NEVER")),
        ("NOTIFY=SUCCESS,failure,DELAY", RcptParameters(notify="SUCCESS,FAILURE,DELAY")),
        ("ORCPT=rfc822;a+2Bb@c.test", RcptParameters(orcpt="rfc822;a+2Bb@c.test")),
        ("ORCPT=utf-8;\\x{E4}@c.test", RcptParameters(orcpt="utf-8;\\x{E4}@c.test")),
        ("ORCPT=x400;x NOTIFY=DELAY", RcptParameters(notify="DELAY", orcpt="x400;x")),
    ],
)
def test_rcpt(text, expected):
    assert rcpt_parameters(text) == expected


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("NOTIFY=\u017fUCCESS", p.BAD_NOTIFY),
        ("NOT\u0131FY=NEVER", p.UNKNOWN_RCPT),
        ("NOTIFY=NEVER\u2003ORCPT=rfc822;x", p.BAD_NOTIFY),
        ("NOTIFY=NEVER,SUCCESS", p.BAD_NOTIFY),
        ("NOTIFY=SUCCESS,SUCCESS", p.BAD_NOTIFY),
        ("NOTIFY=", p.BAD_NOTIFY),
        ("NOTIFY", p.BAD_NOTIFY),
        ("NOTIFY=ALWAYS", p.BAD_NOTIFY),
        ("NOTIFY=SUCCESS,", p.BAD_NOTIFY),
        ("NOTIFY=NEVER NOTIFY=NEVER", p.DUPLICATE),
        ("ORCPT=a@b.test", p.BAD_ORCPT),
        ("ORCPT=rfc822;", p.BAD_ORCPT),
        ("ORCPT=;a", p.BAD_ORCPT),
        ("ORCPT=", p.BAD_ORCPT),
        ("ORCPT=rfc822;a+0Db", p.BAD_ORCPT),
        ("ORCPT=rfc822;a+zz", p.BAD_ORCPT),
        ("ORCPT=rfc822;ä@b.test", p.BAD_ORCPT),
        ("ORCPT=utf-8;ä@b.test", p.BAD_ORCPT),
        ("ORCPT=utf-8;\\x{0A}@b.test", p.BAD_ORCPT),
        ("ORCPT=utf-8;\\x{FFFFFF}@b.test", p.BAD_ORCPT),
        ("ORCPT=utf-8;\\x{D800}@b.test", p.BAD_ORCPT),
        ("ORCPT=utf-8;+0A@b.test", p.BAD_ORCPT),
        ("ORCPT=rfc822;" + "a" * 500, p.BAD_ORCPT),
        ("SIZE=1", p.UNKNOWN_RCPT),
    ],
)
def test_rcpt_refused(text, reply):
    assert rcpt_parameters(text) == reply


def test_utf8_orcpt_needs_smtputf8():
    assert rcpt_parameters("ORCPT=utf-8;ä@b.test", smtputf8=True) == RcptParameters(orcpt="utf-8;ä@b.test")


def test_xtext():
    assert p.is_xtext("a+2Bb+20c")
    assert p.decode_xtext("a+2Bb+20c") == "a+b c"
    assert not p.is_xtext("a b")
