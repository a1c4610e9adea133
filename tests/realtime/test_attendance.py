"""Attendance: joins at once, leaves after a grace, each told once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol.attendance import MAX_PRESENT, Attendance, Change, merged
from realtime.protocol.messages import Member

GRACE = 3.0


def here(*users: str) -> dict[str, Member]:
    """Return users with a socket each."""
    return {user: Member(user, 1, {"name": user}) for user in users}


def told(changes: list[Change]) -> list[str]:
    """Return changes as `+user` and `-user`."""
    return [("+" if one.joined else "-") + one.member.user_id for one in changes]


def test_join_is_told_at_once_and_once() -> None:
    attendance = Attendance(GRACE)
    assert told(attendance.see(here("a"), now=0)) == ["+a"]
    assert told(attendance.see(here("a", "b"), now=1)) == ["+b"]
    assert attendance.see(here("a", "b"), now=2) == []


def test_leave_is_told_after_the_grace() -> None:
    attendance = Attendance(GRACE)
    attendance.see(here("a"), now=0)
    assert attendance.see({}, now=10) == []
    assert [one.connections for one in attendance.members] == [0]
    assert attendance.see({}, now=12.9) == []
    assert told(attendance.see({}, now=13)) == ["-a"]
    assert attendance.members == []
    assert attendance.see({}, now=14) == []


def test_back_within_the_grace_is_neither_leave_nor_join() -> None:
    attendance = Attendance(GRACE)
    attendance.see(here("a"), now=0)
    attendance.see({}, now=1)
    assert attendance.see(here("a"), now=3) == []
    # The next absence begins anew.
    assert attendance.see({}, now=5) == []
    assert told(attendance.see({}, now=8)) == ["-a"]


def test_grace_of_a_dead_process_runs_since_it_was_heard() -> None:
    attendance = Attendance(GRACE)
    attendance.see(here("a"), now=0)
    assert told(attendance.see({}, now=10, since=6.5)) == ["-a"]


def test_leave_tells_what_the_join_did() -> None:
    attendance = Attendance(0.0)
    (joined,) = attendance.see(here("a"), now=0)
    (left,) = attendance.see({}, now=0)
    assert joined.member == left.member


def test_users_beyond_the_bound_are_not_told() -> None:
    attendance = Attendance(0.0)
    crowd = [f"{number:05}" for number in range(MAX_PRESENT + 5)]
    assert len(attendance.see(here(*crowd), now=0)) == MAX_PRESENT
    assert told(attendance.see(here(*crowd[1:]), now=1))[-1] == f"-{crowd[0]}"


def test_merged_counts_the_sockets_of_every_process() -> None:
    one = {"a": Member("a", 2, {"name": "a"}), "b": Member("b", 1)}
    two = {"a": Member("a", 1, None)}
    assert merged([one, two]) == {"a": Member("a", 3, {"name": "a"}), "b": Member("b", 1)}


users = st.sets(st.sampled_from("abc"))


@given(st.lists(st.tuples(users, st.floats(0, 5)), max_size=30))
def test_any_course_of_things_joins_and_leaves_take_turns(
    course: list[tuple[set[str], float]],
) -> None:
    attendance, now, present = Attendance(GRACE), 0.0, set[str]()
    for users, passed in course:
        now += passed
        for joined, member in attendance.see(here(*users), now=now):
            assert (member.user_id in present) is not joined
            present ^= {member.user_id}
        assert present == {one.user_id for one in attendance.members}
        assert users <= present
    attendance.see({}, now=now)
    left = told(attendance.see({}, now=now + GRACE + 1))
    assert {one[1:] for one in left} <= present
    assert attendance.members == []
