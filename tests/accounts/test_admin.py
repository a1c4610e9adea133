"""Django admin: rules, the page that checks access, API tokens."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from accounts.authentication import authenticate
from accounts.models import AccessRule, ApiToken
from realtime.protocol.exceptions import BadTopic
from realtime.protocol.subjects import parse_topic

from .support import auth_request

RULES = "admin:accounts_accessrule_changelist"
ADD_RULE = "admin:accounts_accessrule_add"
CHECK = "admin:accounts_accessrule_check"


def text_of(response: Any) -> str:
    """Return a page's text: no tags, single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def check(client: Client, user: Any, action: str, topic: str) -> Any:
    query = urlencode({"user": user, "action": action, "topic": topic})
    return client.get(f"{reverse(CHECK)}?{query}")


def rule_form(**fields: Any) -> dict[str, Any]:
    form = {"effect": "allow", "action": "subscribe", "topic": "room.1", "enabled": "on"}
    return form | fields


def test_changelist_shows_who_and_links_the_check(admin_client: Client, alice: User) -> None:
    AccessRule.objects.create(user=alice, topic="room.1")
    page = admin_client.get(reverse(RULES))
    assert "user alice" in text_of(page)
    assert f'href="{reverse(CHECK)}"' in page.content.decode()


@pytest.mark.parametrize(
    ("query", "topics"),
    [
        ({"who": "everyone"}, ["room.everyone"]),
        ({"who": "group"}, ["room.staff"]),
        ({"who": "user"}, ["room.alice"]),
        ({"q": "alice"}, ["room.alice"]),
        ({"q": "staff"}, ["room.staff"]),
        ({"effect__exact": "deny"}, ["room.staff"]),
        ({"who": "other"}, ["room.alice", "room.everyone", "room.staff"]),
    ],
    ids=str,
)
def test_changelist_narrowed_lists_the_matching_rules(
    admin_client: Client, alice: User, query: dict[str, str], topics: list[str]
) -> None:
    AccessRule.objects.all().delete()
    AccessRule.objects.create(topic="room.everyone")
    AccessRule.objects.create(
        topic="room.staff", group=Group.objects.create(name="staff"), effect="deny"
    )
    AccessRule.objects.create(topic="room.alice", user=alice)
    page = admin_client.get(reverse(RULES), query)
    assert sorted(rule.topic for rule in page.context["cl"].queryset) == topics


def test_changelist_of_many_rules_costs_no_query_each(
    admin_client: Client, alice: User, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        AccessRule.objects.create(user=alice, topic=f"room.{number}")
    with django_assert_max_num_queries(15):
        admin_client.get(reverse(RULES))


def test_rule_form_good_is_stored(admin_client: Client, alice: User) -> None:
    admin_client.post(reverse(ADD_RULE), rule_form(user=alice.pk, topic="room.9"))
    assert AccessRule.objects.get(topic="room.9").user == alice


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"topic": "room.>.x"}, "'>' stands for the rest, so it can only be the last token."),
        ({"topic": ""}, "This field is required."),
        ({"both": True}, "choose a user or a group, not both."),
    ],
    ids=str,
)
def test_rule_form_wrong_says_what_is_wrong(
    admin_client: Client, alice: User, fields: dict[str, Any], sentence: str
) -> None:
    if fields.pop("both", False):
        fields = {"user": alice.pk, "group": Group.objects.create(name="staff").pk}
    page = admin_client.post(reverse(ADD_RULE), rule_form(**fields))
    assert sentence in text_of(page)
    assert AccessRule.objects.count() == 1


@pytest.mark.parametrize(("topic", "warned"), [("gateway.>", True), ("room.>", False)])
def test_rule_form_topic_that_no_client_can_name_is_warned_of(
    admin_client: Client, topic: str, warned: bool
) -> None:
    page = admin_client.post(reverse(ADD_RULE), rule_form(topic=topic), follow=True)
    assert ("This rule never applies." in text_of(page)) is warned


def test_check_page_unasked_shows_the_form_only(admin_client: Client) -> None:
    page = admin_client.get(reverse(CHECK))
    assert "Check access" in text_of(page)
    assert 'role="status"' not in page.content.decode()
    assert "errornote" not in page.content.decode()


def test_check_page_allowed_links_the_rule(admin_client: Client, alice: User) -> None:
    rule = AccessRule.objects.create(user=alice, action="publish", topic="room.>")
    page = check(admin_client, alice.pk, "publish", "room.1")
    assert "Yes: alice may publish on room.1. This rule says so: allow publish" in text_of(page)
    assert reverse("admin:accounts_accessrule_change", args=[rule.pk]) in page.content.decode()


def test_check_page_denied_links_the_rule(admin_client: Client, alice: User) -> None:
    AccessRule.objects.create(user=alice, topic="room.>")
    rule = AccessRule.objects.create(effect="deny", topic="room.secret")
    page = check(admin_client, alice.pk, "subscribe", "room.secret")
    assert "No: alice may not subscribe to room.secret. This rule says so: deny" in text_of(page)
    assert page.context["answer"].rule == rule


def test_check_page_without_rule_says_so(admin_client: Client, alice: User) -> None:
    page = check(admin_client, alice.pk, "request", "rpc.echo")
    assert "No: alice may not request on rpc.echo. No rule allows it." in text_of(page)


def test_check_page_ignores_disabled_rules(admin_client: Client, alice: User) -> None:
    AccessRule.objects.create(user=alice, topic="room.>", enabled=False)
    assert "No rule allows it." in text_of(check(admin_client, alice.pk, "subscribe", "room.1"))


def test_check_page_inactive_user_is_told(admin_client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    page = check(admin_client, alice.pk, "subscribe", f"user.{alice.pk}.x")
    assert "No: alice is inactive and cannot connect at all." in text_of(page)


@pytest.mark.parametrize("topic", ["gateway.auth", "room.*", "room..1", "$SYS.>"])
def test_check_page_bad_topic_says_what_is_wrong(
    admin_client: Client, alice: User, topic: str
) -> None:
    with pytest.raises(BadTopic) as told:
        parse_topic(topic, ["user", "room", "live"])
    page = check(admin_client, alice.pk, "subscribe", topic)
    assert page.status_code == 200
    assert told.value.message in text_of(page)
    assert page.context["answer"] is None


@pytest.mark.parametrize(("user", "action"), [("999999", "publish"), ("x", "publish"), ("", "fly")])
def test_check_page_bad_question_shows_errors(admin_client: Client, user: str, action: str) -> None:
    page = check(admin_client, user, action, "room.1")
    assert page.status_code == 200
    assert page.context["form"].errors


def test_check_page_malformed_stored_rule_is_reported(admin_client: Client, alice: User) -> None:
    AccessRule.objects.create(user=alice, topic="room.>.x")
    page = check(admin_client, alice.pk, "subscribe", "room.1")
    assert "A stored rule for this user is malformed." in text_of(page)


def test_check_page_escapes_what_it_shows(admin_client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(username="<script>x</script>")
    page = check(admin_client, alice.pk, "subscribe", "room.1")
    assert "<script>x" not in page.content.decode()


def test_check_page_staff_without_permission_is_forbidden(client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    client.force_login(alice)
    assert client.get(reverse(CHECK)).status_code == 403


def test_check_page_staff_who_may_view_rules_sees_it(client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.user_permissions.add(Permission.objects.get(codename="view_accessrule"))
    client.force_login(alice)
    assert client.get(reverse(CHECK)).status_code == 200


def test_check_page_for_others_is_a_login(client: Client, alice: User) -> None:
    client.force_login(alice)
    page = client.get(reverse(CHECK))
    assert (page.status_code, page["Location"].startswith(reverse("admin:login"))) == (302, True)


def test_token_form_new_shows_its_key_once(admin_client: Client, alice: User) -> None:
    form = {"user": alice.pk, "name": "build", "enabled": "on"}
    page = admin_client.post(reverse("admin:accounts_apitoken_add"), form, follow=True)
    (key,) = re.findall(r"<code>(rt_[\w-]{43})</code>", page.content.decode())
    assert authenticate(auth_request(key)).user_id == str(alice.pk)
    token = ApiToken.objects.get()
    for url in (
        reverse("admin:accounts_apitoken_changelist"),
        reverse("admin:accounts_apitoken_change", args=[token.pk]),
        reverse("admin:accounts_apitoken_history", args=[token.pk]),
    ):
        later = admin_client.get(url).content.decode()
        assert key not in later
        assert token.digest not in later


def test_token_form_changed_keeps_key_and_user(
    admin_client: Client, alice: User, bob: User
) -> None:
    token, _ = ApiToken.objects.create_token(alice, "build")
    form = {"user": bob.pk, "name": "builder"}
    page = admin_client.post(
        reverse("admin:accounts_apitoken_change", args=[token.pk]), form, follow=True
    )
    before = token.digest
    token.refresh_from_db()
    assert (token.name, token.enabled, token.user, token.digest) == (
        "builder",
        False,
        alice,
        before,
    )
    assert "rt_" not in page.content.decode()


@pytest.mark.parametrize(("superuser", "allowed"), [(True, True), (False, False)])
def test_token_form_offers_superusers_to_superusers_only(
    client: Client, alice: User, bob: User, superuser: bool, allowed: bool
) -> None:
    """Who holds a key is taken for its user."""
    User.objects.filter(pk=alice.pk).update(is_staff=True, is_superuser=superuser)
    User.objects.filter(pk=bob.pk).update(is_superuser=True)
    alice.user_permissions.add(Permission.objects.get(codename="add_apitoken"))
    client.force_login(alice)
    form = {"user": bob.pk, "name": "mine now", "enabled": "on"}
    client.post(reverse("admin:accounts_apitoken_add"), form)
    assert ApiToken.objects.filter(user=bob).exists() is allowed
