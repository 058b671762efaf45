"""DKIM-Signature fields for a message (RFC 6376 §3.5 and §5), one for each key of a domain.

All keys share one body hash and one hash of the signed fields. The fixed parts of a signature are built once per key
and shape of header, so that signing costs little besides the cryptography. `sign` is synchronous: an RSA signature
takes about half a millisecond without the GIL, so a caller on an event loop runs domains with `slow` in a thread.

The fields in `OVERSIGNED` are listed once more than they occur, so that adding one breaks the signature. There is no l=
(it permits added text) and no i= (it would not say more than d=).
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence

from relay.message.dkim.canonical import relaxed_value
from relay.message.dkim.keys import SigningKey
from relay.message.headers import Header

OVERSIGNED = (
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Reply-To",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "References",
    "In-Reply-To",
)
"""Signed if present, and protected against addition."""

SIGNED = (
    "Sender",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Content-Description",
    "Resent-Date",
    "Resent-From",
    "Resent-Sender",
    "Resent-To",
    "Resent-Cc",
    "Resent-Message-ID",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
    "Auto-Submitted",
    "Feedback-ID",
)
"""Signed if present (RFC 6376 §5.4.1; RFC 8058 §4 for List-Unsubscribe-Post), but mailing lists may add them."""

_WIDTH = 76
_SHAPES_MAX = 64
_NAMES = {name.lower().encode(): name for name in (*OVERSIGNED, *SIGNED)}
_OVERSIGNED = frozenset(name.lower().encode() for name in OVERSIGNED)
_ORDER = tuple(_NAMES)

Shape = tuple[int, ...]
"""The number of occurrences of each name of `_ORDER` in a header."""


class DomainSigner:
    """Signs for one domain with all its keys."""

    __slots__ = ("_keys", "_shapes", "domain", "slow")

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        assert keys, "a signer needs a key"
        assert len({key.domain for key in keys}) == 1, "the keys of a signer are of one domain"
        self._keys = [(key, _opening(key)) for key in keys]
        self._shapes: dict[Shape, bytes] = {}
        self.domain = keys[0].domain
        """The signature's d=."""
        self.slow = any(key.algorithm == "rsa" for key in keys)
        """Whether signing takes long enough to be worth a thread."""

    def sign(self, header: Header, body_hash: bytes, now: float) -> bytes:
        """Return the DKIM-Signature fields with their CRLFs, to be prepended to the header."""
        shape, signed = _collect(header)
        names = self._shapes.get(shape)
        if names is None:
            names = _names(shape)
            if len(self._shapes) < _SHAPES_MAX:
                self._shapes[shape] = names
        hashed = hashlib.sha256(signed)
        middle = b"%b\r\n\tbh=%b;\r\n\tb=" % (names, base64.b64encode(body_hash))
        fields = []
        for key, opening in self._keys:
            unsigned = b"%bt=%b;\r\n\t%b" % (opening, _times(key, now), middle)
            own = hashed.copy()
            own.update(b"dkim-signature:")
            # The field is folded only with CRLF TAB and has single spaces, so this is its relaxed form.
            own.update(unsigned.replace(b"\r\n\t", b" "))
            signature = base64.b64encode(key.sign(own.digest()))
            fields.append(b"DKIM-Signature: %b%b\r\n" % (unsigned, _fold_base64(signature)))
        return b"".join(fields)


class KeyRing:
    """All signers by domain."""

    __slots__ = ("_signers",)

    def __init__(self, keys: Mapping[str, Sequence[SigningKey]]) -> None:
        self._signers = {domain.lower(): DomainSigner(of_domain) for domain, of_domain in keys.items() if of_domain}

    def find(self, domain: str) -> DomainSigner | None:
        """Return the signer of an author's domain, otherwise of its nearest parent domain, otherwise None.

        A parent's signature is aligned in DMARC's relaxed mode (RFC 7489 §3.1.1), the default, so one key of
        example.org serves news.example.org too; a domain with strict alignment needs a key of its own.
        """
        signers = self._signers
        while domain:
            signer = signers.get(domain)
            if signer is not None:
                return signer
            domain = domain.partition(".")[2]
        return None


def _opening(key: SigningKey) -> bytes:
    return (
        f"v=1; a={key.algorithm}-sha256; c=relaxed/relaxed;\r\n\td={key.domain};\r\n\ts={key.selector};\r\n\t".encode(
            "ascii"
        )
    )


def _times(key: SigningKey, now: float) -> bytes:
    if key.expire_after is None:
        return b"%d" % int(now)
    return b"%d; x=%d" % (int(now), int(now + key.expire_after))


def _collect(header: Header) -> tuple[Shape, bytes]:
    """Return the number of occurrences of each signed name, and the relaxed forms in the order of h=."""
    names, fields = header.names, header.fields
    present: dict[bytes, list[bytes]] = {}
    for index, name in enumerate(names):
        if name in _NAMES:
            form = b"%b:%b\r\n" % (name, relaxed_value(fields[index][len(name) + 1 :]))
            if name in present:
                present[name].append(form)
            else:
                present[name] = [form]
    shape: list[int] = []
    forms: list[bytes] = []
    for name in _ORDER:
        instances = present.get(name)
        if instances is None:
            shape.append(0)
        else:
            shape.append(len(instances))
            # RFC 6376 §5.4.2: several instances are signed from the bottom up.
            forms.extend(reversed(instances))
    return tuple(shape), b"".join(forms)


def _names(shape: Shape) -> bytes:
    """Return the h= tag, folded."""
    listed: list[str] = []
    for name, count in zip(_ORDER, shape, strict=True):
        listed.extend([_NAMES[name]] * (count + (name in _OVERSIGNED)))
    lines = [f"h={listed[0]}"]
    for word in listed[1:]:
        if len(lines[-1]) + len(word) + 2 > _WIDTH - 8:
            lines[-1] += ":"
            lines.append(word)
        else:
            lines[-1] += f":{word}"
    return ("\r\n\t".join(lines) + ";").encode("ascii")


def _fold_base64(text: bytes) -> bytes:
    width = _WIDTH - 8
    return b"\r\n\t".join([text[start : start + width] for start in range(0, len(text), width)])
