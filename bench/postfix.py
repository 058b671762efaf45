"""A Postfix of its own: own settings, queue and port; the system's is not touched. Defaults except addresses and route.

Services are upstream's master.cf without chroot. It keeps its log in a file, as the relay does: the default is syslog,
and where no syslog runs its lines would go nowhere, at no cost.
"""

import contextlib
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.keys import Secrets
from bench.processes import free_port, greets, program, run, until
from bench.words import BenchError, SkipError

CONNECTIONS = 20
"""Postfix's default of connections to one destination; the relay's lane to the sink gets the same."""

_MASTER = """\
{port}     inet n - n - - smtpd
pickup     unix n - n 60 1 pickup
cleanup    unix n - n - 0 cleanup
qmgr       unix n - n 300 1 qmgr
tlsmgr     unix - - n 1000? 1 tlsmgr
rewrite    unix - - n - - trivial-rewrite
bounce     unix - - n - 0 bounce
defer      unix - - n - 0 bounce
trace      unix - - n - 0 bounce
verify     unix - - n - 1 verify
flush      unix n - n 1000? 0 flush
proxymap   unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp       unix - - n - - smtp
relay      unix - - n - - smtp
  -o syslog_name=postfix/$service_name
showq      unix n - n - - showq
error      unix - - n - - error
retry      unix - - n - - error
discard    unix - - n - - discard
lmtp       unix - - n - - lmtp
anvil      unix - - n - 1 anvil
scache     unix - - n - 1 scache
postlog    unix-dgram n - n - 1 postlogd
"""

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/lib
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.example.com
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
relayhost = [127.0.0.1]:{sink}
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
"""

_SECURE = """\
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_sasl_auth_enable = yes
cyrus_sasl_config_path = {folder}/conf/sasl
smtpd_sasl_security_options = noanonymous
smtpd_relay_restrictions = permit_sasl_authenticated, reject
"""

_SASL = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {database}
mech_list: PLAIN
"""


@dataclass(frozen=True, slots=True)
class PostfixOptions:
    """What a benchmark needs of Postfix besides defaults."""

    secrets: Secrets | None = None
    secure: bool = False
    milter_port: int | None = None
    """Where OpenDKIM listens."""


class Postfix:
    """A folder with a Postfix instance; `serving` runs it. Raises `SkipError` where that is impossible."""

    name = "Postfix"

    def __init__(self, folder: Path, sink_port: int, options: PostfixOptions) -> None:
        self._program = program("postfix", "postfix")
        if os.geteuid() != 0:
            raise SkipError("Postfix starts as root only")
        self.folder = folder
        self.port = free_port()
        self.helpers: list[int] = []
        """Processes that serve it and count as it, such as OpenDKIM."""
        for name in ("", "conf", "conf/sasl", "spool", "lib"):
            (folder / name).mkdir()
            (folder / name).chmod(0o755)
        record = pwd.getpwnam("postfix")
        os.chown(folder / "lib", record.pw_uid, record.pw_gid)
        (folder / "conf/master.cf").write_text(_MASTER.format(port=self.port))
        (folder / "conf/main.cf").write_text(_MAIN.format(folder=folder, sink=sink_port) + self._more(options))

    def _more(self, options: PostfixOptions) -> str:
        more = ""
        if options.milter_port is not None:
            more += f"smtpd_milters = inet:127.0.0.1:{options.milter_port}\n"
        if options.secure:
            assert options.secrets is not None
            more += _SECURE.format(folder=self.folder, **_paths(options.secrets))
            self._make_user(options.secrets)
        return more

    def _make_user(self, secrets: Secrets) -> None:
        database = self.folder / "sasldb2"
        # Debian looks into conf/sasl, whatever cyrus_sasl_config_path says.
        (self.folder / "conf/sasl/smtpd.conf").write_text(_SASL.format(database=database))
        user, _, realm = secrets.user.partition("@")
        command = [program("saslpasswd2", "sasl2-bin"), "-p", "-c", "-f", str(database), "-u", realm, user]
        run(command, input=secrets.password)
        record = pwd.getpwnam("postfix")
        os.chown(database, record.pw_uid, record.pw_gid)

    @contextlib.contextmanager
    def serving(self) -> Iterator["Postfix"]:
        """Run it until the block ends."""
        run([self._program, "-c", str(self.folder / "conf"), "start"])
        try:
            until(lambda: greets(self.port), 60, "Postfix greets")
            yield self
        finally:
            run([self._program, "-c", str(self.folder / "conf"), "stop"])

    def roots(self) -> list[int]:
        """The processes on top of all of its own."""
        return [int((self.folder / "spool/pid/master.pid").read_text()), *self.helpers]

    def waiting(self) -> int:
        """Messages that are not delivered yet."""
        return sum(
            len(files)
            for name in ("maildrop", "incoming", "active", "deferred")
            for _, _, files in os.walk(self.folder / "spool" / name)
        )


def version() -> str | None:
    """Postfix's version; None where it isn't installed."""
    try:
        return run([program("postconf", "postfix"), "-h", "mail_version"]).strip()
    except BenchError:
        return None


def _paths(secrets: Secrets) -> dict[str, Path]:
    return {"certificate": secrets.certificate, "key": secrets.key}
