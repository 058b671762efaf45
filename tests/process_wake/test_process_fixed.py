"""What a reload cannot change, and that each such setting is named."""

import msgspec
import pytest

from relay.process.fixed import in_force, needs_restart
from relay_config.schema import Listener, Sandbox, Settings

STARTED = Settings(
    hostname="relay.test",
    data_dir="/var/lib/relay",
    workers=2,
    listener=(
        Listener(address="127.0.0.1:587"),
        Listener(address="127.0.0.1:465", tls="implicit"),
        Listener(address="127.0.0.1:25", tls="none", auth="off"),
    ),
)


def changed(**changes):
    return msgspec.structs.replace(STARTED, **changes)


def listeners(*replaced, keep=(0, 1, 2)):
    kept = [STARTED.listener[n] for n in keep]
    return changed(listener=(*kept, *replaced))


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (STARTED, []),
        (changed(hostname="other.test"), []),
        (changed(workers=3), ["workers"]),
        (changed(pin_workers=False, user="relay", data_dir="/x"), ["data_dir", "pin_workers", "user"]),
        (changed(sandbox=Sandbox(receiver="127.0.0.1:2599")), ["sandbox.receiver"]),
        (listeners(Listener(address="127.0.0.1:2525")), ["listener 127.0.0.1:2525"]),
        (listeners(keep=(0, 2)), ["listener 127.0.0.1:465"]),
        (
            listeners(Listener(address="127.0.0.1:588"), keep=(1, 2)),
            ["listener 127.0.0.1:587", "listener 127.0.0.1:588"],
        ),
        (listeners(Listener(address="127.0.0.1:587", auth="optional", plaintext_auth=True), keep=(1, 2)), []),
        (listeners(Listener(address="127.0.0.1:587", tls="none"), keep=(2, 1)), []),
        (listeners(Listener(address="127.0.0.1:587", tls="implicit"), keep=(1, 2)), ["listener 127.0.0.1:587 tls"]),
        (
            listeners(Listener(address="127.0.0.1:25", proxy_protocol=True), keep=(0, 1)),
            ["listener 127.0.0.1:25 tls", "listener 127.0.0.1:25 proxy_protocol"],
        ),
        (listeners(Listener(address="127.0.0.1:465", tls="starttls", proxy_protocol=True), keep=(0, 2)), []),
    ],
)
def test_each_change_that_needs_a_restart_is_named(wanted, named):
    assert [change.setting for change in needs_restart(STARTED, wanted)] == named
    assert needs_restart(STARTED, in_force(STARTED, wanted)) in ([], needs_restart(STARTED, wanted))


def test_both_values_are_shown():
    assert needs_restart(STARTED, changed(workers=3))[0][1:] == ("2", "3")
    assert needs_restart(STARTED, changed(pin_workers=False, user="x"))[1][1:] == ("not set", "x")


def test_what_can_be_changed_of_a_listener_is_changed():
    wanted = listeners(Listener(address="127.0.0.1:587", tls="implicit", auth="optional"), keep=(1,))
    listener = in_force(STARTED, wanted).listener
    assert [one.address for one in listener] == [one.address for one in STARTED.listener]
    assert (listener[0].tls, listener[0].auth) == ("starttls", "optional")
    assert listener[2] == STARTED.listener[2], "it listens until the restart"


@pytest.mark.parametrize(
    ("started", "wanted"), [("127.0.0.1:1", None), (None, "127.0.0.1:1"), ("127.0.0.1:1", "127.0.0.1:2")]
)
def test_a_sandbox_never_lets_mail_out_before_the_restart(started, wanted):
    before, after = changed(sandbox=Sandbox(receiver=started)), changed(sandbox=Sandbox(receiver=wanted))
    assert in_force(before, after).sandbox.receiver == "127.0.0.1:1"


def test_every_setting_that_is_fixed_is_known():
    """Settings outside tables are used at the start alone, but for those named here."""
    plain = {
        name
        for name, value in msgspec.structs.asdict(STARTED).items()
        if not isinstance(value, msgspec.Struct | tuple | dict)
    }
    reloaded = {"hostname"}
    differing = {"data_dir": "/x", "workers": 7, "pin_workers": False, "user": "x"}
    assert plain - reloaded == differing.keys()
    assert {change.setting for change in needs_restart(STARTED, changed(**differing))} == differing.keys()
