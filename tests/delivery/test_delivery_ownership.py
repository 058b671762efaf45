"""Every lane has its owners, the same seen from every worker, and their shares add up to the lane."""

from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.ownership import owners, ranking, share_of, shares
from relay_config.schema import Lane
from relay_config.words import Rate


def lane(connections: int = 10, rate: Rate = Rate(100, 1), connection_rate: Rate = Rate(10, 1)) -> Lane:  # noqa: B008
    return Lane(max_connections=connections, rate=rate, connection_rate=connection_rate)


@given(
    connections=st.integers(1, 200),
    amount=st.integers(0, 5000),
    opened=st.integers(0, 100),
    workers=st.integers(1, 32),
)
def test_shares_add_up_and_none_is_empty(connections, amount, opened, workers):
    whole = lane(connections, Rate(amount, 1), Rate(opened, 1))
    count = shares(whole, workers)
    assert 1 <= count <= workers
    parts = [share_of(whole, rank, count) for rank in range(count)]
    assert sum(part.max_connections for part in parts) == connections
    assert all(part.max_connections >= 1 for part in parts)
    for get in (lambda x: x.rate, lambda x: x.connection_rate):
        assert sum(get(part).amount for part in parts) == get(whole).amount
        assert all((get(part).amount == 0) == (get(whole).amount == 0) for part in parts)


def test_a_small_lane_has_one_owner():
    assert shares(lane(connections=1), 8) == 1
    assert shares(lane(rate=Rate(1000, 3600)), 8) == 1
    assert shares(lane(), 2) == 2


def test_removing_a_worker_moves_only_its_lanes():
    names = [f"mx{i}.example.org" for i in range(500)]
    moved = [name for name in names if ranking(name, 4)[0] != ranking(name, 3)[0]]
    assert all(ranking(name, 4)[0] == 3 for name in moved)
    assert 60 < len(moved) < 200


def test_owners_are_distinct_workers():
    got = owners("mx.example.org", lane(connections=100, rate=Rate(0, 1)), 8)
    assert sorted(got) == sorted(set(got))
    assert set(got) <= set(range(8))
