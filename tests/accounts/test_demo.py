"""Demo accounts."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User

from accounts.access import check_access
from accounts.demo import make_demo_accounts
from accounts.models import AccessRule
from realtime.protocol.rules import Action

pytestmark = pytest.mark.django_db


def test_demo_accounts_are_returned_and_log_in() -> None:
    accounts = make_demo_accounts()
    assert accounts == [
        ("alice", "alice", "user"),
        ("bob", "bob", "user"),
        ("admin", "admin", "superuser"),
    ]
    for name, password, role in accounts:
        user = User.objects.get(username=name)
        assert user.check_password(password)
        assert user.is_superuser is user.is_staff is (role == "superuser")


@pytest.mark.parametrize("action", ["subscribe", "publish"])
def test_demo_group_may_talk_in_every_room_by_a_demo_rule(action: Action) -> None:
    make_demo_accounts()
    for name in ("alice", "bob"):
        answer = check_access(User.objects.get(username=name), action, "room.lobby")
        assert answer.allowed
        assert answer.rule is not None
        assert "demo" in answer.rule.note.lower()
    assert not check_access(User.objects.get(username="admin"), "publish", "room.lobby").allowed


def test_demo_made_again_changes_nothing() -> None:
    first = make_demo_accounts()
    before = list(AccessRule.objects.order_by("pk").values())
    assert make_demo_accounts() == first
    assert list(AccessRule.objects.order_by("pk").values()) == before
    assert User.objects.count() == 3


def test_demo_made_again_keeps_a_changed_password() -> None:
    make_demo_accounts()
    alice = User.objects.get(username="alice")
    alice.set_password("looking glass")
    alice.save()
    make_demo_accounts()
    assert User.objects.get(username="alice").check_password("looking glass")


def test_demo_made_again_keeps_what_an_administrator_took_away() -> None:
    make_demo_accounts()
    AccessRule.objects.filter(action="publish").delete()
    User.objects.get(username="bob").groups.clear()
    make_demo_accounts()
    assert not AccessRule.objects.filter(action="publish").exists()
    assert not User.objects.get(username="bob").groups.exists()


def test_demo_where_a_user_of_that_name_exists_keeps_their_password_and_role() -> None:
    User.objects.create_user("admin", password="mine alone")
    make_demo_accounts()
    admin = User.objects.get(username="admin")
    assert admin.check_password("mine alone")
    assert not admin.is_superuser


def test_demo_user_deleted_is_made_again_with_its_group() -> None:
    make_demo_accounts()
    User.objects.get(username="bob").delete()
    make_demo_accounts()
    assert Group.objects.get(name="demo") in User.objects.get(username="bob").groups.all()
