"""The folder of what the sandbox got."""

from pathlib import Path

import pytest

from relay.sandbox.store import Envelope, SandboxStore
from relay_queue.ids import new_id


@pytest.fixture
def store(tmp_path: Path) -> SandboxStore:
    store = SandboxStore(tmp_path / "sandbox")
    store.prepare()
    return store


def envelope(**changes: object) -> Envelope:
    fields: dict[str, object] = {
        "id": new_id(),
        "received_at": 1_700_000_000.5,
        "sender": "a@example.test",
        "recipients": ("b@example.test",),
        "size": 5,
    }
    return Envelope(**(fields | changes))


def test_what_is_added_is_read_back(store):
    kept = envelope(subject="Grüße", tls="TLSv1.3 X", smtputf8=True)
    store.add(kept, [b"He", b"llo"])
    assert store.envelope(kept.id) == kept
    assert store.content(kept.id) == b"Hello"
    assert list(store.envelopes()) == [kept]


def test_newest_first_and_limited(store):
    added = [envelope() for _ in range(5)]
    for one in added:
        store.add(one, [b"x"])
    assert list(store.envelopes()) == added[::-1]
    assert list(store.envelopes(limit=2)) == added[:2:-1]


def test_only_the_newest_are_kept(tmp_path):
    folder = tmp_path / "sandbox"
    store = SandboxStore(folder, keep=3)
    store.prepare()
    added = [envelope() for _ in range(4)]
    for one in added:
        store.add(one, [b"x"])
    assert list(store.envelopes()) == added[:0:-1]
    # A receiver that is started again counts what was there before it.
    again = SandboxStore(folder, keep=3)
    again.prepare()
    another = envelope()
    again.add(another, [b"x"])
    assert [e.id for e in again.envelopes()] == [another.id, added[3].id, added[2].id]
    assert len(list(folder.iterdir())) == 6


def test_private_files_only(store, tmp_path):
    store.add(envelope(), [b"x"])
    folder = tmp_path / "sandbox"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_clear_forgets_all_but_foreign_files(store, tmp_path):
    store.add(envelope(), [b"x"])
    store.add(envelope(), [b"x"])
    foreign = tmp_path / "sandbox" / "first-password"
    foreign.write_text("hello")
    assert store.clear() == 2
    assert [path.name for path in (tmp_path / "sandbox").iterdir()] == ["first-password"]
    assert store.clear() == 0


def test_leftovers_of_a_killed_receiver_go(store, tmp_path):
    folder = tmp_path / "sandbox"
    file = store.new_file()
    file.close()
    (folder / f"{new_id()}.json.part").write_bytes(b"{")
    store.prepare()
    assert list(folder.iterdir()) == []


def test_a_spilled_file_is_discarded(store, tmp_path):
    file = store.new_file()
    file.write(b"x")
    store.discard_file(file)
    assert file.closed
    assert list((tmp_path / "sandbox").iterdir()) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "x", "A" * 26, "0" * 26 + "/x", "0" * 26])
def test_what_is_no_id_finds_nothing(store, name):
    assert store.envelope(name) is None
    assert store.content(name) is None


def test_damaged_envelopes_are_passed_over(store, tmp_path):
    kept = envelope()
    store.add(kept, [b"x"])
    (tmp_path / "sandbox" / f"{new_id()}.json").write_bytes(b'{"id": ')
    assert list(store.envelopes()) == [kept]


def test_a_failed_write_leaves_nothing(store, tmp_path):
    def blocks():
        yield b"x"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.add(envelope(), blocks())
    assert list((tmp_path / "sandbox").iterdir()) == []
    assert list(store.envelopes()) == []


def test_no_folder_is_an_empty_sandbox(tmp_path):
    store = SandboxStore(tmp_path / "none")
    assert list(store.envelopes()) == []
    assert store.clear() == 0
