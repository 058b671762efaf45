"""The targets that are pure: octets in, invariants checked. Those with files or sockets are in `targets_io`."""

import io
import itertools
import quopri
import re
import time

from relay.message.authors import read
from relay.message.fix import Facts, fix
from relay.message.fold import LONGEST
from relay.message.headers import Header
from relay.message.incoming import Incoming
from relay.message.long_lines import plan, repair_header, repaired
from relay.message.mailboxes import MailboxError, parse
from relay.message.transfer import quoted, rewrapped_base64, rewrapped_quoted
from relay.smtp.address import parse_address, parse_path
from relay.smtp.client.replies import TEXT_LIMIT, ReplyError, ReplyReader
from relay.smtp.parameters import decode_xtext, is_orcpt, is_xtext, mail_parameters, rcpt_parameters
from relay.smtp.reply import Reply
from relay.smtp.server.content import Content
from relay.smtp.server.data import DataReader
from tests.support.fuzzing import Target

_FACTS = Facts(id="0" * 26, hostname="relay.test", now=1_767_323_045.0)
_LIMIT = 4000
_DECLARED = (b"content-transfer-encoding", b"mime-version")
_JOINERS = str.maketrans("", "", "\u200c\u200d")


def text_of(data: bytes) -> str:
    """As the engine decodes a line: UTF-8 or nothing; other octets are shown as Latin-1 so that they count too."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def address(data: bytes) -> None:
    """A path that is accepted can be written again, says the same, and hides nothing."""
    text = text_of(data)
    path = parse_path(text)
    if isinstance(path, str):
        assert path.isascii()
        return
    assert path.address.translate(_JOINERS).isprintable(), path
    assert path.domain.isascii(), path
    assert path.domain == path.domain.lower() or path.domain.startswith("["), path
    assert text.endswith(path.rest)
    assert path.address.isascii() or not path.ascii, path
    assert path.address.rpartition("@")[2].isascii(), path
    assert len(path.address.encode()) <= 254, path
    if path.domain:
        again = parse_path(f"<{path.address}>")
        assert not isinstance(again, str), (path, again)
        assert (again.address, again.domain, again.rest) == (path.address, path.domain, "")
        local, at, domain = path.address.rpartition("@")
        assert local
        assert at
        lowered = parse_address(f"{local}@{path.domain}")
        assert not isinstance(lowered, str), (path, lowered)
        assert lowered.domain == path.domain, "one form of a domain, whoever wrote it"
        assert domain


def parameters(data: bytes) -> None:
    """What is accepted is in bounds and decodes to what may be shown."""
    text = text_of(data)
    mail = mail_parameters(text)
    if not isinstance(mail, Reply):
        assert mail.size is None or 0 <= mail.size < 10**20
        assert mail.ret in {None, "FULL", "HDRS"}
        if mail.envid is not None:
            assert is_xtext(mail.envid)
            assert decode_xtext(mail.envid).isprintable()
    else:
        assert mail.code in {501, 555}
    rcpt = rcpt_parameters(text, smtputf8=bool(len(data) % 2))
    if not isinstance(rcpt, Reply):
        words = set((rcpt.notify or "NEVER").split(","))
        assert words <= {"SUCCESS", "FAILURE", "DELAY"} or words == {"NEVER"}
        assert rcpt.orcpt is None or is_orcpt(rcpt.orcpt, smtputf8=True)
        assert rcpt.orcpt is None or rcpt.orcpt.isprintable()
    else:
        assert rcpt.code in {501, 555}


def _slowly(octets: bytes, *, normalise: bool) -> tuple[int | None, bytes | None]:
    """The obvious reader: where the message ends, and its octets (None: refused)."""
    end = (b"\r\n" + octets).find(b"\r\n.\r\n")
    if end < 0:
        return None, None
    body = octets[:end]
    lines = [line[1:] if line.startswith(b".") else line for line in body.split(b"\r\n")]
    if body.endswith(b"\r\n"):
        lines.pop()
    clear = b"".join(line + b"\r\n" for line in lines) if body else b""
    clean = clear.replace(b"\r\n", b"")
    if b"\0" in clear or len(clear) > _LIMIT - 8:
        return end + 3, None
    if b"\r" in clean or b"\n" in clean:
        if not normalise:
            return end + 3, None
        clear = re.sub(rb"\r\n|\r|\n", b"\r\n", clear)
    if any(len(line) > 998 for line in clear.split(b"\r\n")):
        return end + 3, None
    return end + 3, clear


def content(data: bytes) -> None:
    """The DATA reader against one that is obviously right, in any cut; the first octet says how it is cut."""
    step, octets = (data[0] % 17 + 1, data[1:]) if data else (1, b"")
    for normalise in (False, True):
        collected = Content(Incoming(io.BytesIO, spill_at=100), _LIMIT, normalise=normalise)
        reader = DataReader(collected)
        taken: int | None = None
        for start in range(0, len(octets), step):
            used = reader.feed(octets[start : start + step])
            if used >= 0:
                taken = start + used
                break
        end, wanted = _slowly(octets, normalise=normalise)
        assert taken == end, (taken, end)
        if taken is None:
            collected.discard()
            continue
        fault = collected.finish()
        if wanted is None:
            assert fault is not None
            continue
        if fault is not None:
            # The reference leaves a margin for what normalising adds.
            assert len(octets) > _LIMIT // 2, fault.reply
            continue
        got = (collected.incoming.header or b"") + b"".join(collected.incoming.body_blocks())
        collected.incoming.discard()
        assert got in {wanted, wanted + b"\r\n"}, (got, wanted)


def header(data: bytes) -> None:
    """Editing touches nothing else; what is accepted has one author field as every reader would see it."""
    scanned = Header.scan(data)
    if scanned.problem is None and not scanned.overflow:
        written = scanned.to_bytes()
        block = data.partition(b"\r\n\r\n")[0].removesuffix(b"\r\n") + b"\r\n"
        if scanned.fields and not data.startswith(b"\r\n"):
            assert written == block + b"\r\n", (written, block)
        for name, field in zip(scanned.names, scanned.fields, strict=True):
            assert field.lower().startswith(name + b":")
            assert field.endswith(b"\r\n")
    incoming = Incoming(io.BytesIO)
    incoming.write(data)
    incoming.close()
    fixed = fix(incoming.header or b"", _FACTS)
    incoming.discard()
    if isinstance(fixed, Reply):
        assert fixed.code == 554
        assert "\n" not in fixed.text
        return
    octets = fixed.header.to_bytes()
    unfolded = re.sub(rb"\r\n[ \t]", b" ", octets[: octets.index(b"\r\n\r\n") + 2])
    names = [line.partition(b":")[0].lower() for line in unfolded.split(b"\r\n")[:-1]]
    assert octets.endswith(b"\r\n\r\n")
    assert octets.count(b"\r\n\r\n") == 1, "no line of it ends the header early"
    assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n")
    assert names.count(b"from") == 1
    for name in (b"date", b"message-id"):
        assert names.count(name) == 1
    for name in (b"subject", b"to", b"cc", b"reply-to", b"sender"):
        assert names.count(name) <= 1
    assert not {b"bcc", b"resent-bcc", b"return-path"} & set(names)
    again = fix(octets, _FACTS)
    assert not isinstance(again, Reply)
    assert again.header.to_bytes() == octets, "mending twice is mending once"
    assert again.authors == fixed.authors


def authors(data: bytes) -> None:
    """A From that is accepted names addresses that could be written in an envelope, and stand there."""
    try:
        lenient = read(data, "default.test")
    except MailboxError:
        lenient = None
    if lenient is not None and lenient.rewritten is not None:
        assert parse(lenient.rewritten) == lenient.mailboxes, "what leaves has one reading"
    try:
        found = parse(data)
    except MailboxError:
        return
    assert lenient is None or lenient.mailboxes == found
    for mailbox in found:
        assert (
            mailbox.local in data.replace(b"\r\n", b"").replace(b" ", b"").replace(b"\t", b"") or b'"' in mailbox.local
        )
        assert b"\r" not in mailbox.local
        assert b"\n" not in mailbox.local
        assert b"\0" not in mailbox.local
        assert mailbox.domain
        assert mailbox.domain.isascii()
        assert not re.search(r"[\s<>@,;()\"\\]", mailbox.domain), mailbox


def repairs(data: bytes) -> None:
    """Long lines are repaired in the same way in memory and in a file, for good, without loss, and quickly."""
    data = re.sub(rb"\r\n|\r|\n", b"\r\n", data.replace(b"\0", b""))
    began = time.thread_time()
    got = _repaired(data, 1 << 20)
    assert time.thread_time() - began < 0.1
    assert got == _repaired(data, 1)
    assert got == _repaired(got, 1 << 20), "repairing twice is repairing once"
    for line in got.split(b"\r\n"):
        if len(line) > LONGEST:
            words = line.split()
            assert line.startswith(b"--") or len(words) == 1 or (len(words) == 2 and words[0].endswith(b":")), line


def _repaired(data: bytes, spill_at: int) -> bytes:
    """The message after the repair; every edit is checked against what it replaces."""
    incoming = Incoming(io.BytesIO, spill_at=spill_at)
    incoming.write(data)
    incoming.close()
    header = Header.scan(incoming.header or b"")
    body = incoming.octets()
    found = plan(header, body)
    end = 0
    for edit in found.edits:
        assert end <= edit.start < edit.stop <= len(body)
        end = edit.stop
        old = body[edit.start : edit.stop]
        if edit.text is not None:
            kept = [name for name in Header.scan(edit.text).names if name not in _DECLARED]
            assert kept == [name for name in Header.scan(old).names if name not in _DECLARED]
            continue
        new = b"".join(edit.repair(body, edit.start, edit.stop))
        if edit.repair is quoted:
            assert max(map(len, new.split(b"\r\n"))) <= 76
            assert quopri.decodestring(new) == old
        elif edit.repair is rewrapped_quoted:
            assert new.replace(b"=\r\n=2D-", b"--").replace(b"=\r\n", b"") == old.replace(b"=\r\n", b"")
        elif edit.repair is rewrapped_base64:
            assert b"".join(new.split()) == b"".join(old.split())
        else:
            assert new.replace(b"\r\n ", b"") == old.replace(b"\r\n ", b"")
    incoming.replace_body(repaired(body, found.edits))
    repair_header(header, quote=found.quote)
    try:
        return header.to_bytes() + b"".join(incoming.body_blocks())
    finally:
        incoming.discard()


def replies(data: bytes) -> None:
    """However the octets are cut, the same replies; their text can be shown."""

    def read(blocks: list[bytes]) -> tuple[list[Reply], bool]:
        reader, found = ReplyReader(), []
        try:
            for block in blocks:
                found += reader.feed(block)
                if reader.broken:
                    return found, True
        except ReplyError:
            return found, True
        return found, False

    whole = read([data])
    step = len(data) % 7 + 1
    cut = read([data[at : at + step] for at in range(0, len(data), step)])
    # Too long a line is seen earlier or later, but never becomes a reply.
    common = min(len(whole[0]), len(cut[0]))
    assert whole[0][:common] == cut[0][:common]
    assert whole[1] or cut[1] or whole == cut
    for reply in itertools.chain(whole[0], cut[0]):
        assert 200 <= reply.code <= 599
        assert all(line.isprintable() for line in reply.text.split("\n")), reply
        assert len(reply.text) <= TEXT_LIMIT
        assert not reply.enhanced or reply.enhanced[0] == str(reply.code)[0]
        assert Reply(reply.code, reply.enhanced, reply.text).encode().endswith(b"\r\n")


PURE = [
    Target(
        "address",
        address,
        [
            b"<a@b.test>",
            b"<>",
            b"<postmaster> SIZE=1",
            b'<"a b"@c.test> NOTIFY=NEVER',
            b"<@a.test,@b.test:c@d.test>",
            b"<a@[127.0.0.1]>",
            b"<a@[IPv6:::1]>",
            "<ü@bücher.test>".encode(),
            b"<a@xn--bcher-kva.test>",
        ],
    ),
    Target(
        "parameters",
        parameters,
        [
            b"SIZE=10 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x+2By AUTH=<>",
            b"NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+40b.test",
            b"ORCPT=utf-8;a\\x{FC}@b.test",
            b"NOTIFY=NEVER",
        ],
    ),
    Target(
        "content",
        content,
        [
            b"\x01Subject: x\r\n\r\nbody\r\n..\r\n.\r\nNOOP\r\n",
            b"\x03.\r\n",
            b"\x05a: b\r\n\r\n.x\r\n..y\r\n\r\n.\r\n",
            b"\x02a\r\n.\n\r\n.\r\n",
            b"\x07" + b"x" * 998 + b"\r\n.\r\n",
        ],
    ),
    Target(
        "header",
        header,
        [
            b"From: A <a@b.test>\r\nTo: c@d.test\r\nSubject: x\r\n y\r\n\r\n",
            b"From: a@b.test, c@d.test\r\nSender: a@b.test\r\nBcc: x@y\r\n\tz\r\nDate: x\r\nMessage-ID: <1>\r\n\r\n",
            b"Received: from x\r\n\tby y; now\r\nReturn-Path: <>\r\nfrom: a@b.test\r\n \r\n\r\n",
        ],
    ),
    Target(
        "authors",
        authors,
        [
            b" A <a@b.test>",
            b' "A, B" <a@b.test>, c@d.test (comment (nested))',
            b" Group: a@b.test, c@d.test;",
            b" =?utf-8?q?x?= <a@[127.0.0.1]>\r\n\t(x)",
            b' "a b"@c.test',
            b" x@y.test <a@b.test>",
            b" Doe, [x] =?utf-8?q?y?= < a @ b.test. > (z);",
            b" root (Cron Daemon)",
            b" A (<x@y.test>) <root>",
        ],
    ),
    Target(
        "repairs",
        repairs,
        [
            b"From: a@b.test\r\n\r\n" + b"\xc3\xa4 = x " * 300,
            b"From: a@b.test\r\nSubject: " + b"word " * 300 + b"\r\n\r\nx\r\n",
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
            + b"p " * 600
            + b"\r\n--b\r\n\r\n"
            + b"q--b " * 300
            + b"\r\n--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            + b"r " * 600
            + b"\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + b"eHh4" * 300
            + b"\r\n--b--\r\n"
            + b"s" * 999,
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
            b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
            + b"=3D=\r\n" * 5
            + b"=3Dab--" * 300
            + b"\r\n--b--\r\n",
            b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nX: " + b"y " * 600 + b"\r\n\r\n" + b"z" * 3000,
            b"Content-Type: multipart/mixed; boundary="
            + b"b" * 1200
            + b"\r\n\r\n--"
            + b"b" * 1200
            + b"\r\n\r\n"
            + b"z" * 999,
        ],
    ),
    Target(
        "replies",
        replies,
        [
            b"220 mx.test ESMTP\r\n250-mx.test\r\n250-PIPELINING\r\n250 SIZE 100\r\n",
            b"550-5.1.1 no such user\r\n550 5.1.1 at all\r\n",
            b"354\r\n250 2.0.0 ok\r\n421 4.3.2 bye\n",
        ],
    ),
]
