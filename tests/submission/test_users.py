import multiprocessing
import os
import stat

import msgspec
import pytest

from relay.submission.passwords import generate_secret, seal_secret
from relay.submission.users import User, UserFileError, Users, check_name, check_sender, editing, read_users
from relay_queue.durable import Disk

SECRET = generate_secret()


def user(name="ann", **more):
    return User(**{"name": name, "credential": seal_secret(SECRET), "senders": ("*",), "created_at": 1.0} | more)


def put(path, *users):
    with editing(path) as known:
        known.update({user.name: user for user in users})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "users.json"


def test_no_file_means_no_users(path):
    assert Users(path).find("ann") is None
    assert Users(path).all() == ()
    assert not path.exists()


def test_users_are_found_in_any_case(path):
    put(path, user("ann@example.org"), user("bob"))
    users = Users(path)
    assert users.find("Ann@Example.ORG") == user("ann@example.org")
    assert [found.name for found in users.all()] == ["ann@example.org", "bob"]


@pytest.mark.parametrize("name", ["", "bob\0", "bob ", "\u212ael", "b\u00f6b", "x" * 5000, "\udcff"])
def test_other_names_find_nobody(path, name):
    put(path, user("bob"), user("kel"))
    assert Users(path).find(name) is None


def test_the_file_is_private_and_leaves_nothing_beside_it(path):
    put(path, user())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".users.json.lock", "users.json"]
    assert stat.S_IMODE((path.parent / ".users.json.lock").stat().st_mode) == 0o600
    assert SECRET not in path.read_text()


def test_every_change_is_seen_at_once(path):
    users = Users(path)
    for step in range(20):
        changed = user(senders=(f"{step:02}.example.org",))
        put(path, changed)
        assert users.find("ann") == changed
    with editing(path) as known:
        del known["ann"]
    assert users.find("ann") is None


def test_nothing_is_written_when_nothing_changes_or_the_change_fails(path):
    put(path, user())
    before = path.stat().st_ino
    put(path, user())
    assert path.stat().st_ino == before
    with pytest.raises(KeyError), editing(path) as known:
        del known["ann"], known["bob"]
    assert read_users(path) == {"ann": user()}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"version": 1}',
        b'{"version": 1, "users": [{"name": "ann"}]}',
        b'{"version": 1, "users": [], "more": 1}',
        msgspec.json.encode({"version": 1, "users": [user(), user()]}),
        msgspec.json.encode({"version": 2, "users": []}),
        msgspec.json.encode({"version": 1, "users": [user()]}).replace(b'"sha256"', b'"argon2id"'),
        msgspec.json.encode({"version": 1, "users": [user()]}).replace(b'"sha256"', b'"plain"'),
    ],
)
def test_a_damaged_file_is_told_and_the_old_users_are_kept(path, text):
    put(path, user())
    told = []
    users = Users(path, told.append)
    path.write_bytes(text)
    assert users.find("ann") == user()
    assert users.find("ann") == user()
    assert [str(error).startswith(f"{path}: ") for error in told] == [True]
    with pytest.raises(UserFileError, match=r"users\.json"):
        Users(path)
    with pytest.raises(UserFileError), editing(path):
        pytest.fail("a damaged file must not be edited")
    assert path.read_bytes() == text
    path.unlink()
    put(path, user("bob"))
    assert users.find("bob") == user("bob")


def test_an_error_tells_no_credential(path):
    put(path, user())
    path.write_text(path.read_text().replace('"created_at": 1.0', '"created_at": "x"'))
    with pytest.raises(UserFileError) as caught:
        read_users(path)
    assert user().credential.value not in str(caught.value)


class FailingDisk(Disk):
    """Fails at one step, as a full or broken disk would."""

    def __init__(self, step):
        self.step = step

    def fail(self, step):
        if step == self.step:
            raise OSError(28, "No space left on device")

    def create(self, path):
        self.fail("create")
        return super().create(path)

    def sync(self, descriptor):
        self.fail("sync")
        super().sync(descriptor)

    def rename(self, source, target):
        self.fail("rename")
        super().rename(source, target)


@pytest.mark.parametrize("step", ["create", "sync", "rename"])
def test_a_failing_disk_leaves_the_old_users(path, step):
    put(path, user())
    with pytest.raises(UserFileError, match="No space left"), editing(path, FailingDisk(step)) as known:
        known["bob"] = user("bob")
    assert read_users(path) == {"ann": user()}
    put(path, user("bob"))
    assert set(read_users(path)) == {"ann", "bob"}


def test_the_new_file_is_synced_before_it_takes_the_olds_place(path):
    steps = []

    class Recording(Disk):
        def sync(self, descriptor):
            steps.append("sync")
            super().sync(descriptor)

        def rename(self, source, target):
            steps.append("rename")
            super().rename(source, target)

        def sync_folder(self, path):
            steps.append("sync_folder")
            super().sync_folder(path)

    with editing(path, Recording()) as known:
        known["ann"] = user()
    assert steps == ["sync", "rename", "sync_folder"]


def add_many(path, start):
    for number in range(start, start + 10):
        put(path, user(f"user{number}"))


def test_edits_at_the_same_time_all_count(path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=add_many, args=(path, start)) for start in (100, 200, 300)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(read_users(path)) == 30


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for others")
def test_what_root_writes_belongs_to_the_folders_owner(path):
    os.chown(path.parent, 65534, 65534)
    put(path, user())
    assert {entry.stat().st_uid for entry in path.parent.iterdir()} == {65534}


def test_a_link_in_place_of_the_lock_is_not_followed(path):
    target = path.parent / "elsewhere"
    (path.parent / ".users.json.lock").symlink_to(target)
    with pytest.raises(UserFileError), editing(path):
        pytest.fail("the lock must not be a link")
    assert not target.exists()


def test_names_are_checked():
    assert [check_name(name) for name in ("Ann", "app1", "a", "Ann+x@Example.org")] == [
        "ann",
        "app1",
        "a",
        "ann+x@example.org",
    ]
    for bad in ("", " ", "a b", "-a", "a:", "\u212ael", "b\u00f6b", "a\0", "a\n", "x" * 129):
        with pytest.raises(ValueError, match="letters, digits"):
            check_name(bad)


def test_senders_are_checked():
    assert [check_sender(sender) for sender in ("*", "Example.ORG", "Ann@Example.ORG")] == [
        "*",
        "example.org",
        "Ann@example.org",
    ]
    assert [
        check_sender(sender) for sender in ("a..b.@x.test", '"a.b"@x.test', "a@WEB_1.app", "l" * 90 + "@x.test")
    ] == [
        '"a..b."@x.test',
        "a.b@x.test",
        "a@web_1.app",
        "l" * 90 + "@x.test",
    ]
    for bad in (
        "",
        "@",
        "@example.org",
        '"a@example.org',
        "l" * 250 + "@x.test",
        "a b@example.org",
        "a@b@example.org",
        "ann@",
        "ann@b\u00fccher.example",
        "a\n@b.c",
    ):
        with pytest.raises(ValueError, match="is no "):
            check_sender(bad)
