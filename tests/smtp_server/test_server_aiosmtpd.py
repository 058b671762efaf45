"""What we rely on of aiosmtpd: a new release that changes it must be looked at before it is used."""

import asyncio
import inspect
import smtplib

from aiosmtpd import smtp as aiosmtpd
from aiosmtpd.proxy_protocol import ProxyData, get_proxy

from relay.smtp.server.protocol import RelaySMTP
from tests.support.raw_smtp import listening

CALLBACKS = ("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing")


def test_the_version_is_one_that_was_looked_at():
    assert aiosmtpd.__version__.startswith("1.4.")


def test_the_base_class_is_what_it_was():
    assert issubclass(RelaySMTP, aiosmtpd.SMTP)
    assert issubclass(aiosmtpd.SMTP, asyncio.StreamReaderProtocol)
    assert list(inspect.signature(aiosmtpd.SMTP.__init__).parameters)[:2] == ["self", "handler"]


def test_all_that_a_transport_calls_is_ours():
    """The base class's constructor is not run, so none of its callbacks may be."""
    for name in CALLBACKS:
        assert name in vars(RelaySMTP), name
    called = {name for name in dir(asyncio.Protocol) if not name.startswith("_")}
    assert called <= set(CALLBACKS)


def test_none_of_our_names_hides_one_of_theirs():
    ours = set(vars(RelaySMTP)) - set(CALLBACKS) - {"__init__", "__doc__", "__module__"}
    theirs = {name for cls in aiosmtpd.SMTP.__mro__[:-1] for name in vars(cls)}
    assert ours & theirs == set()


def test_deletion_without_construction_is_harmless():
    source = inspect.getsource(aiosmtpd.SMTP.__del__)
    assert 'getattr(self, "_closed", None)' in source


def test_their_types_can_be_made():
    loop = asyncio.new_event_loop()
    try:
        session = aiosmtpd.Session(loop)
    finally:
        loop.close()
    for name in ("peer", "ssl", "host_name", "extended_smtp", "proxy_data", "auth_data", "authenticated"):
        assert hasattr(session, name), name
    envelope = aiosmtpd.Envelope()
    for name in ("mail_from", "smtp_utf8", "rcpt_tos"):
        assert hasattr(envelope, name), name


def test_the_proxy_parser_reads_as_our_reader_offers():
    assert list(inspect.signature(get_proxy).parameters) == ["reader_func"]
    data = ProxyData(version=1)
    for name in ("valid", "src_addr", "src_port"):
        assert hasattr(data, name), name


async def test_their_view_of_a_session():
    async with listening(auth="optional", plaintext_auth=True) as server:
        client = await server.connect()
        await client.code("EHLO c.test")
        await client.code("AUTH PLAIN AHVzZXIAcGFzcw==")
        for line in ("MAIL FROM:<s@ext.test>", "RCPT TO:<u@local.test>"):
            await client.code(line)
        protocol = next(iter(server.server.context.connections.open))
        session, envelope = protocol.aiosmtpd_session(), protocol.aiosmtpd_envelope()
        assert session.host_name == "c.test"
        assert session.extended_smtp is True
        assert session.authenticated is True
        assert session.peer[0] == "127.0.0.1"
        assert (envelope.mail_from, envelope.rcpt_tos) == ("s@ext.test", ["u@local.test"])


async def test_smtplib_talks_to_it():
    async with listening(auth="optional", plaintext_auth=True) as server:

        def send():
            with smtplib.SMTP("127.0.0.1", server.port, timeout=10) as client:
                client.login("user", "pass")
                client.sendmail("a@b.test", ["c@d.test", "e@f.test"], "Subject: x\n\n.hello\n")

        await asyncio.to_thread(send)
        (message,) = server.handler.messages
        assert message.octets == b"Subject: x\r\n\r\n.hello\r\n"
        assert message.recipients == ["c@d.test", "e@f.test"]
