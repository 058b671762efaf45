"""What `relay.smtp.client.connect` relies on inside aiosmtplib; when this fails, look there before upgrading."""

import inspect

import aiosmtplib
from aiosmtplib.protocol import MAX_LINE_LENGTH, MAX_RESPONSE_LENGTH, SMTPProtocol

from relay.smtp.client import connect


async def test_the_buffer_is_where_it_was():
    protocol = SMTPProtocol()
    assert isinstance(protocol._buffer, bytearray)
    assert not protocol._buffer
    assert "_buffer" in inspect.getsource(SMTPProtocol.data_received)
    assert "del self._buffer[:]" in inspect.getsource(SMTPProtocol.start_tls)


def test_replies_are_bounded():
    assert MAX_LINE_LENGTH <= 8192
    assert MAX_RESPONSE_LENGTH <= 64 * 1024


def test_closing_is_ours_to_override():
    assert "self.close()" in inspect.getsource(aiosmtplib.SMTP.connect)
    assert "self.transport.close()" in inspect.getsource(aiosmtplib.SMTP.close)
    assert {"transport", "protocol"} <= set(vars(aiosmtplib.SMTP(hostname="x")))


def test_a_socket_and_a_name_to_verify_go_together():
    source = inspect.getsource(aiosmtplib.SMTP._create_connection)
    assert "sock=self.sock" in source
    assert "server_hostname = hostname" in source


def test_only_one_module_knows_aiosmtplib():
    folder = inspect.getfile(connect).rpartition("/")[0]
    import pathlib

    users = [path.name for path in pathlib.Path(folder).rglob("*.py") if "import aiosmtplib" in path.read_text()]
    assert users == ["connect.py"]
