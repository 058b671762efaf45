"""MAIL and RCPT (RFC 5321 §4.1.1.2, §4.1.1.3). This module checks the grammar; the handler decides policy."""

import re

from relay.model.transaction import RecipientPath, Transaction
from relay.smtp.address import DOMAIN_MISSING, Path, parse_path
from relay.smtp.parameters import MailParameters, RcptParameters, mail_parameters, rcpt_parameters
from relay.smtp.reply import Reply
from relay.smtp.server import texts
from relay.smtp.server.session import Session
from relay.smtp.server.texts import Canned

_LOCAL_PATH = re.compile(r'<?("(?:[^"\\]|\\.)*"|[^@<>\s]+)>?(?= |$)')

_NO_MAIL_PARAMETERS = MailParameters()
_NO_RCPT_PARAMETERS = RcptParameters()


def mail(session: Session, argument: str) -> None:
    """MAIL FROM:<path> [parameters]."""
    transaction = _transaction(session, argument)
    if not isinstance(transaction, Transaction):
        session.refuse_any(transaction)
        return
    reply = session.handler.mail(session.peer, transaction)
    if reply is not None:
        session.answer(reply)
        return
    session.transaction = transaction
    session.say(texts.SENDER_OK)


def rcpt(session: Session, argument: str) -> None:
    """RCPT TO:<path> [parameters]."""
    transaction = session.transaction
    if transaction is None or session.chunked:
        session.refuse(texts.NEED_MAIL if transaction is None else texts.IN_CHUNKS)
        return
    if argument[:3].upper() != "TO:":
        session.refuse(texts.RCPT_SYNTAX)
        return
    path = parse_path(argument[3:].lstrip(" "), lenient=session.lenient)
    if path == DOMAIN_MISSING:
        path = _completed(session, argument[3:].lstrip(" "))
    if isinstance(path, str) or not path.address:
        session.answer(Reply(501, "5.1.3", path if isinstance(path, str) else "A recipient cannot be empty"))
        return
    recipient = _recipient(session, transaction, path)
    refusal = _add(session, transaction, recipient) if isinstance(recipient, RecipientPath) else recipient
    if refusal is None:
        session.say(texts.RECIPIENT_OK)
    else:
        session.refuse_any(refusal)


def _add(session: Session, transaction: Transaction, recipient: RecipientPath) -> Canned | Reply | None:
    """Add a recipient to the transaction. Returns None, or the refusal."""
    most = session.context.max_recipients
    mailbox = recipient.mailbox
    if mailbox in transaction.mailboxes:
        # Already accepted; the message is delivered to this recipient once. The NOTIFY and ORCPT of the first RCPT
        # remain in force: RFC 3461 does not say how to merge two, and there is no reason to prefer the later one.
        # Repetitions have their own limit, so that they never use up the places of other recipients.
        transaction.repeated += 1
        return None if transaction.repeated <= most else texts.TOO_MANY_RECIPIENTS
    if len(transaction.recipients) >= most:
        return texts.TOO_MANY_RECIPIENTS
    reply = session.handler.rcpt(session.peer, transaction, recipient)
    if reply is None:
        transaction.recipients.append(recipient)
        transaction.mailboxes.add(mailbox)
    return reply


def _mail_order(session: Session) -> Canned | None:
    """The reason to refuse MAIL in this state, or None."""
    peer = session.peer
    if not peer.helo:
        return texts.NEED_HELLO
    if session.transaction is not None:
        return texts.NESTED_MAIL
    if peer.identity is None and session.context.listener.auth == "required" and not session.auth_offered:
        return texts.NEED_TLS
    return None


def _transaction(session: Session, argument: str) -> Transaction | Canned | Reply:
    """The transaction that MAIL opens, or the refusal."""
    fault = _mail_order(session)
    if fault is not None:
        return fault
    if argument[:5].upper() != "FROM:":
        return texts.MAIL_SYNTAX
    # A space after the colon is not allowed (RFC 5321 §3.3) but common, so it is accepted.
    path = parse_path(argument[5:].lstrip(" "), lenient=session.lenient)
    if path == DOMAIN_MISSING or (isinstance(path, Path) and path.address and not path.domain):
        path = _completed(session, argument[5:].lstrip(" "))
    if isinstance(path, str):
        return Reply(501, "5.1.7", path)
    parameters = mail_parameters(path.rest) if path.rest else _NO_MAIL_PARAMETERS
    if isinstance(parameters, Reply):
        return parameters
    conflict = _mail_conflict(session, path, parameters)
    if conflict is not None:
        return conflict
    return Transaction(
        path.address,
        path.domain,
        parameters.size,
        parameters.eightbit,
        parameters.smtputf8,
        parameters.ret,
        parameters.envid,
    )


def _completed(session: Session, text: str) -> Path | str:
    """The path at the start of `text`, which has no domain, completed with `submission.default_domain`.

    Only for our own clients, such as cron and other programs that address a host's users by their local names.
    """
    if not session.lenient:
        return DOMAIN_MISSING
    domain = session.context.default_domain
    if domain is None:
        return texts.NO_DEFAULT_DOMAIN
    match = _LOCAL_PATH.match(text)
    return DOMAIN_MISSING if match is None else parse_path(f"<{match[1]}@{domain}>{text[match.end() :]}")


def _mail_conflict(session: Session, path: Path, parameters: MailParameters) -> Canned | None:
    """The refusal if path and parameters are valid separately but not together or not in this session; or None."""
    if path.rest and not session.peer.extended:
        return texts.NEED_EXTENDED
    if not path.ascii and not parameters.smtputf8:
        return texts.NEED_SMTPUTF8
    if parameters.size is not None and parameters.size > session.context.max_message_size:
        return texts.TOO_BIG
    return None


def _recipient(session: Session, transaction: Transaction, path: Path) -> RecipientPath | Canned | Reply:
    """The recipient that RCPT names, or the refusal."""
    if not path.ascii and not transaction.smtputf8:
        return texts.NEED_SMTPUTF8
    if path.rest and not session.peer.extended:
        return texts.NEED_EXTENDED
    parameters = rcpt_parameters(path.rest, smtputf8=transaction.smtputf8) if path.rest else _NO_RCPT_PARAMETERS
    if isinstance(parameters, Reply):
        return parameters
    if path.domain:
        return RecipientPath(path.address, path.domain, parameters.notify, parameters.orcpt)
    # <postmaster> without a domain is the postmaster of this host (RFC 5321 §4.5.1).
    hostname = session.context.hostname
    return RecipientPath(f"{path.address}@{hostname}", hostname.lower(), parameters.notify, parameters.orcpt)
