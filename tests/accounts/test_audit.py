"""The audit log: every way of changing a right leaves an entry, and no entry has a secret."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.core.serializers import deserialize
from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from accounts import audit
from accounts.audit import AuditEntry, actor, audited
from accounts.middleware import audit_middleware
from accounts.models import AccessRule, ApiToken

pytestmark = pytest.mark.django_db


def entries(*, after: int = 0) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(pk__gt=after).order_by("pk"))


def newest() -> int:
    return AuditEntry.objects.values_list("pk", flat=True).first() or 0


def told(entry: AuditEntry) -> tuple[str, str, str, dict[str, tuple[Any, Any]]]:
    """Return kind, change, subject, and what differs."""
    differences = {name: (before, now) for name, before, now in entry.differences()}
    return entry.kind, entry.change, entry.subject, differences


@pytest.fixture
def rule(alice: User) -> AccessRule:
    return AccessRule.objects.create(user=alice, topic="room.1")


@pytest.fixture
def team(alice: User) -> Group:
    team = Group.objects.create(name="team")
    alice.groups.add(team)
    return team


NEW_RULE = {
    "effect": (None, "allow"),
    "action": (None, "subscribe"),
    "topic": (None, "room.2"),
    "user": (None, "alice"),
    "enabled": (None, True),
    "note": (None, ""),
}


@pytest.mark.parametrize(
    "create",
    [
        lambda user: AccessRule.objects.create(user=user, topic="room.2"),
        lambda user: AccessRule(user=user, topic="room.2").save(),
        lambda user: AccessRule.objects.bulk_create([AccessRule(user=user, topic="room.2")]),
        lambda user: user.access_rules.create(topic="room.2"),
    ],
    ids=["create", "save", "bulk_create", "of the user"],
)
def test_rule_created_is_recorded(alice: User, create: Callable[[User], object]) -> None:
    before = newest()
    create(alice)
    (entry,) = entries(after=before)
    assert told(entry) == ("rule", "created", "allow subscribe room.2 for alice", NEW_RULE)
    assert entry.before is None


@pytest.mark.parametrize(
    "change",
    [
        lambda rule: (setattr(rule, "enabled", False), rule.save()),
        lambda rule: (setattr(rule, "enabled", False), rule.save(update_fields=["enabled"])),
        lambda rule: AccessRule.objects.filter(pk=rule.pk).update(enabled=False),
        lambda rule: (
            setattr(rule, "enabled", False),
            AccessRule.objects.bulk_update([rule], ["enabled"]),
        ),
        lambda rule: AccessRule.objects.update_or_create(pk=rule.pk, defaults={"enabled": False}),
        lambda rule: loaded(rule, enabled=False),
    ],
    ids=["save", "save a field", "update", "bulk_update", "update_or_create", "loaddata"],
)
def test_rule_changed_is_recorded(rule: AccessRule, change: Callable[[AccessRule], object]) -> None:
    before = newest()
    change(rule)
    (entry,) = entries(after=before)
    assert told(entry) == (
        *("rule", "changed", "allow subscribe room.1 for alice"),
        {"enabled": (True, False)},
    )
    assert entry.subject_id == str(rule.pk)


def loaded(rule: AccessRule, **values: Any) -> None:
    """Load a fixture that changes a rule."""
    out = io.StringIO()
    call_command("dumpdata", "accounts.accessrule", pks=str(rule.pk), stdout=out)
    (row,) = json.loads(out.getvalue())
    row["fields"].update(values)
    for one in deserialize("json", json.dumps([row])):
        one.save()  # what loaddata does


@pytest.mark.parametrize(
    "delete",
    [
        lambda rule: rule.delete(),
        lambda rule: AccessRule.objects.filter(pk=rule.pk).delete(),
    ],
    ids=["one", "many"],
)
def test_rule_deleted_is_recorded(rule: AccessRule, delete: Callable[[AccessRule], object]) -> None:
    before = newest()
    delete(rule)
    (entry,) = entries(after=before)
    assert (entry.kind, entry.change, entry.after) == ("rule", "deleted", None)
    assert entry.before["topic"] == "room.1"


def test_rules_deleted_with_their_user_are_recorded(rule: AccessRule, alice: User) -> None:
    before = newest()
    alice.delete()
    kinds = {(one.kind, one.change) for one in entries(after=before)}
    assert kinds == {("rule", "deleted"), ("user", "deleted")}


def test_rule_saved_unchanged_is_not_recorded(rule: AccessRule) -> None:
    before = newest()
    rule.save()
    AccessRule.objects.update(enabled=True)
    assert entries(after=before) == []


def test_change_that_fails_is_not_recorded(rule: AccessRule, team: Group) -> None:
    before = newest()
    with pytest.raises(DatabaseError), transaction.atomic():
        AccessRule.objects.filter(pk=rule.pk).update(group=team)  # a user's already
    assert entries(after=before) == []


@pytest.mark.django_db(transaction=True)
def test_change_whose_entry_fails_does_not_happen(
    rule: AccessRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(audit, "actor", fails)
    rule.enabled = False
    with pytest.raises(DatabaseError):
        rule.save()
    assert AccessRule.objects.get(pk=rule.pk).enabled


@pytest.mark.parametrize(
    ("change", "was", "now"),
    [
        (lambda user, team, crew: user.groups.add(crew), ["team"], ["crew", "team"]),
        (lambda user, team, crew: crew.user_set.add(user), ["team"], ["crew", "team"]),
        (lambda user, team, crew: user.groups.remove(team), ["team"], []),
        (lambda user, team, crew: team.user_set.remove(user), ["team"], []),
        (lambda user, team, crew: user.groups.clear(), ["team"], []),
        (lambda user, team, crew: team.user_set.clear(), ["team"], []),
        (lambda user, team, crew: team.delete(), ["team"], []),
    ],
    ids=["joins", "is taken", "leaves", "is dropped", "leaves all", "all are dropped", "deleted"],
)
def test_membership_changed_is_recorded(
    alice: User, team: Group, change: Callable[..., object], was: list[str], now: list[str]
) -> None:
    crew = Group.objects.create(name="crew")
    before = newest()
    change(alice, team, crew)
    (entry,) = entries(after=before)
    assert told(entry) == ("membership", "changed", "alice", {"groups": (was, now)})


def test_membership_of_many_costs_as_many_queries_as_of_one(
    team: Group, django_assert_max_num_queries: Any
) -> None:
    users = User.objects.bulk_create([User(username=f"u{number}") for number in range(300)])
    with django_assert_max_num_queries(12):
        team.user_set.add(*users)
    assert AuditEntry.objects.filter(kind="membership", after={"groups": ["team"]}).count() == 301


def test_token_changes_are_recorded_without_any_secret(alice: User) -> None:
    before = newest()
    token, key = ApiToken.objects.create_token(alice, "build")
    new_key = token.set_new_key()
    token.save()
    token.enabled = False
    token.save()
    token.mark_used(timezone.now())
    token.delete()
    log = entries(after=before)
    assert [one.change for one in log] == ["created", "changed", "changed", "deleted"]
    assert told(log[1])[3] == {"key": ("the old one", "a new one")}
    assert told(log[2])[3] == {"enabled": (True, False)}
    written = json.dumps([[one.subject, one.before, one.after] for one in log])
    for secret in (key, new_key, token.digest):
        assert secret not in written


@pytest.mark.parametrize(
    ("values", "differences"),
    [
        ({"is_active": False}, {"is_active": (True, False)}),
        ({"is_superuser": True}, {"is_superuser": (False, True)}),
        ({"password": "md5$x$abc"}, {"password": ("the old one", "a new one")}),
        ({"first_name": "Al"}, None),
    ],
    ids=str,
)
def test_user_changed_is_recorded_where_it_matters(
    alice: User, values: dict[str, Any], differences: dict[str, Any] | None
) -> None:
    before = newest()
    for name, value in values.items():
        setattr(alice, name, value)
    alice.save()
    found = [told(one) for one in entries(after=before)]
    assert found == ([] if differences is None else [("user", "changed", "alice", differences)])


def test_user_created_is_recorded_when_privileged() -> None:
    before = newest()
    User.objects.create_user("plain")
    User.objects.create_superuser("root")
    assert [one.subject for one in entries(after=before)] == ["root"]


def test_log_in_costs_no_look_up_for_the_audit(alice: User, django_assert_num_queries: Any) -> None:
    alice.last_login = timezone.now()
    with django_assert_num_queries(1):
        alice.save(update_fields=["last_login"])


# Who.


def test_admin_page_is_named_with_its_user(admin_client: Client, alice: User) -> None:
    form = {"effect": "deny", "action": "publish", "topic": "room.x", "user": alice.pk}
    admin_client.post(reverse("admin:accounts_accessrule_add"), form)
    entry = entries()[-1]
    assert (entry.actor, entry.source) == ("admin", "POST admin:accounts_accessrule_add")
    assert entry.actor_id == str(User.objects.get(username="admin").pk)


def test_admin_bulk_deletion_is_named_with_its_user(admin_client: Client, rule: AccessRule) -> None:
    form = {"action": "delete_selected", "_selected_action": [rule.pk], "post": "yes"}
    admin_client.post(reverse("admin:accounts_accessrule_changelist"), form)
    assert not AccessRule.objects.filter(pk=rule.pk).exists()
    entry = entries()[-1]
    assert (entry.actor, entry.change, entry.kind) == ("admin", "deleted", "rule")


def test_admin_user_page_records_groups_and_flags(
    admin_client: Client, alice: User, team: Group
) -> None:
    before = newest()
    form = {
        "username": "alice",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
        "groups": [],
    }
    admin_client.post(reverse("admin:auth_user_change", args=[alice.pk]), form)
    assert [told(one) for one in entries(after=before)] == [
        ("user", "changed", "alice", {"is_active": (True, False)}),
        ("membership", "changed", "alice", {"groups": (["team"], [])}),
    ]


def test_command_is_named_with_the_machines_user_and_without_arguments(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/opt/x/manage.py", "shell", "-c", "secret"])
    monkeypatch.setenv("LOGNAME", "operator")
    assert actor() == ("operator", "", "manage.py shell")


def test_command_of_a_user_without_a_name_is_named_by_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert actor().name.startswith("uid ")


def test_request_without_a_user_is_named_so_and_its_address_is_not() -> None:
    request = RequestFactory().post("/reset/MQ/the-secret-token/")
    request.resolver_match = None
    with audited(request):
        assert actor() == ("(not logged in)", "", "POST")
    assert actor().name != "(not logged in)"


async def test_async_request_is_named_too() -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(actor().source)

    request = RequestFactory().get("/")
    assert (await audit_middleware(view)(request)).content == b"GET"
    assert actor().source != "GET"


# The pages.


def test_audit_page_shows_what_changed_and_escapes_it(
    admin_client: Client, rule: AccessRule
) -> None:
    rule.note = "<script>x</script>"
    rule.save()
    for url in (
        reverse("admin:accounts_auditentry_changelist"),
        reverse("admin:accounts_auditentry_change", args=[newest()]),
    ):
        page = admin_client.get(url).content.decode()
        assert "&lt;script&gt;x" in page
        assert "<script>x" not in page


@pytest.mark.parametrize("page", ["add", "delete", "change"])
def test_audit_page_changes_nothing(admin_client: Client, rule: AccessRule, page: str) -> None:
    before = AuditEntry.objects.values().first()
    args = [] if page == "add" else [newest()]
    url = reverse(f"admin:accounts_auditentry_{page}", args=args)
    assert admin_client.post(url, {"post": "yes", "actor": "somebody"}).status_code == 403
    assert AuditEntry.objects.values().first() == before


def test_audit_page_needs_its_permission(client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    client.force_login(alice)
    url = reverse("admin:accounts_auditentry_changelist")
    assert client.get(url).status_code == 403
    alice.user_permissions.add(Permission.objects.get(codename="view_auditentry"))
    assert client.get(url).status_code == 200


def test_audit_entries_outlive_who_made_them(admin_client: Client, alice: User) -> None:
    User.objects.get(username="admin").delete()
    assert connection.check_constraints() is None
    assert entries()[-1].subject == "admin"
