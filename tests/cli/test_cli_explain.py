"""`relay explain-reply`."""

import pytest

from tests.support.shell import SETTINGS, Shell, run

RULE = """\
[[reply_rule]]
pattern = "sending limit"
site = "*.example.net"
class = "throttled"
disposition = "temporary"
pause = "5m"
"""
ROUTE = """\
[[route]]
domains = ["*"]
relay_host = "smtp.example.net:587"
tls = "verify"
user = "u"
password_file = "p"
"""


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No settings file in sight."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELAY_CONFIG", raising=False)


def test_it_explains_a_reply_without_settings(nowhere):
    ran = run("explain-reply", "--json", "550 5.7.1 DKIM authentication failed")
    assert ran.code == 0
    assert ran.records == [
        {
            "text": "550 5.7.1 DKIM authentication failed",
            "class": "policy",
            "disposition": "permanent",
            "pauses_lane": False,
            "rule": "sender-authentication",
        }
    ]


def test_people_get_a_table(nowhere):
    ran = run("explain-reply", "452 Mailbox size limit exceeded", "421 4.7.0 too many connections")
    assert ran.code == 0
    assert ran.lines[0].split() == ["CLASS", "DISPOSITION", "PAUSES", "RULE", "TEXT"]
    assert ran.lines[1].split()[:4] == ["mailbox_full", "temporary", "no", "mailbox-full"]
    assert ran.lines[2].split()[:4] == ["throttled", "temporary", "yes", "rate"]


def test_texts_come_from_standard_input(nowhere):
    texts = "550-5.1.1 no\\n550 5.1.1 such user\n\n450 MI:DMC 当前连接发送的邮件数量超出限制\n"
    ran = run("explain-reply", "--json", "-", stdin=texts.encode())
    assert ran.code == 0
    assert [record["class"] for record in ran.records] == ["unknown_user", "throttled"]
    assert ran.records[0]["text"] == "550-5.1.1 no\\n550 5.1.1 such user"


def test_forgotten_quotes_are_no_trouble(nowhere):
    (record,) = run("explain-reply", "--json", "550", "5.1.1", "user", "unknown").records
    assert (record["text"], record["class"]) == ("550 5.1.1 user unknown", "unknown_user")


@pytest.mark.parametrize("text", ["no code", "250 ok", "999 x", "", "5500 x", "354 go on"])
def test_what_is_no_refusal_is_wrong_usage(nowhere, text):
    ran = run("explain-reply", text)
    assert ran.code == 2
    assert "is no refusal" in ran.err
    assert ran.out == ""


def test_a_bad_line_does_not_stop_the_others(nowhere):
    ran = run("explain-reply", "--json", "-", stdin="nonsense\x1b[2J\n550 no such user\n")
    assert ran.code == 1
    assert [record["class"] for record in ran.records] == ["unknown_user"]
    assert "is no refusal" in ran.err
    assert "\x1b" not in ran.err


def test_nothing_on_standard_input_fails(nowhere):
    assert run("explain-reply", "-", stdin="").code == 1


def test_rules_of_the_settings_come_first(tmp_path):
    shell = Shell(tmp_path, SETTINGS + RULE)
    (record,) = shell.run("explain-reply", "--json", "--site", "mx1.example.net", "550 sending limit").records
    assert record == {
        "text": "550 sending limit",
        "class": "throttled",
        "disposition": "temporary",
        "pauses_lane": True,
        "rule": "reply_rule[0]",
    }
    (elsewhere,) = shell.run("explain-reply", "--json", "550 sending limit").records
    assert (elsewhere["disposition"], elsewhere["rule"]) != ("temporary", "reply_rule[0]")


def test_stage_and_credentials_count(tmp_path):
    shell = Shell(tmp_path, SETTINGS + ROUTE)

    def disposition(*options):
        (record,) = shell.run("explain-reply", "--json", *options, "550 5.7.8 no").records
        return record["disposition"], record["class"]

    assert disposition() == ("permanent", "policy")
    assert disposition("--site", "smtp.example.net:587") == ("temporary", "auth")
    assert disposition("--stage", "auth") == ("temporary", "auth")
    assert disposition("--stage", "greeting") == ("temporary", "policy")


def test_a_named_settings_file_has_to_be_there(tmp_path):
    assert run("-c", str(tmp_path / "none.toml"), "explain-reply", "550 no").code == 1


BAD = [
    ('pattern = "(a+)+b"\nclass = "other"\n', "groups"),
    ('pattern = "("\nclass = "other"\n', "regular expression"),
    ('pattern = "x"\nclass = "never heard of"\n', "relay_denied"),
    ('pattern = "x"\n', "set at least one"),
    ('class = "other"\n', "not set"),
    ('pattern = "x"\nclass = "other"\nsite = "not a host!"\n', "site"),
    ('pattern = "x"\nclass = "other"\nfailure = "other"\n', "unknown key"),
]


@pytest.mark.parametrize(("rule", "remedy"), BAD)
def test_check_says_what_is_wrong_with_a_rule(tmp_path, rule, remedy):
    ran = Shell(tmp_path, SETTINGS + "[[reply_rule]]\n" + rule).run("check")
    assert ran.code == 1
    assert "reply_rule[0]" in ran.out
    assert remedy in ran.out


def test_a_pattern_that_cannot_be_used_is_no_traceback(tmp_path):
    ran = Shell(tmp_path, SETTINGS + '[[reply_rule]]\npattern = "(a+)+b"\nclass = "other"\n').run(
        "explain-reply", "550 no"
    )
    assert ran.code == 1
    assert "relay check" in ran.err
