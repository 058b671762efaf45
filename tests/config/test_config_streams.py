"""What the settings say about streams."""

import pytest

from relay_config.schema import Duration, Retry, Settings, Stream
from relay_config.streams import Share, Streams


def streams(**stream: Stream) -> Streams:
    return Streams(Settings(hostname="mail.example.com", retry=Retry(expire_after=Duration(86_400)), stream=stream))


def test_two_streams_are_built_in():
    known = streams()
    assert known.names == ("bulk", "transactional")
    assert known["transactional"] == Share(priority=10)
    assert known["bulk"] == Share(priority=0)


@pytest.mark.parametrize("name", ["transactional", "bulk"])
def test_a_setting_of_a_built_in_stream_leaves_its_others_alone(name):
    known = streams(**{name: Stream(expire_after=Duration(3600))})
    assert known[name] == streams()[name]
    assert known.retry(name).expire_after == 3600


def test_a_priority_may_be_lowered_to_zero():
    assert streams(transactional=Stream(priority=0))["transactional"].priority == 0


def test_mail_of_a_stream_that_was_removed_has_the_lowest_priority():
    known = streams(news=Stream(priority=3))
    assert "gone" not in known
    assert known["gone"] == Share()
    assert known.retry("gone").expire_after == 86_400


def test_a_messages_own_expiry_comes_first():
    known = streams(news=Stream(expire_after=Duration(3600)))
    assert known.retry("news", 1000.0, 1600.0).expire_after == 600
    assert known.retry("news", 1000.0, 900.0).expire_after == 0
