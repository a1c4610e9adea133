"""Django admin: rules, the page that checks them, API tokens, the audit log, and users."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from realtime.conf import settings
from realtime.models import Gateway
from realtime.protocol.exceptions import BadTopic, GatewayError

from .access import AccessAnswer, check_access
from .forms import CheckAccessForm
from .kick import kick
from .live_admin import LiveAdmin
from .models import AccessRule, ApiToken, AuditEntry


class WhoFilter(admin.SimpleListFilter):
    """Rules for everyone, for groups, or for single users."""

    title = "who"
    parameter_name = "who"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the three kinds."""
        return [("everyone", "Everyone"), ("group", "Groups"), ("user", "Users")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rules of the chosen kind."""
        chosen = {
            "everyone": Q(user__isnull=True, group__isnull=True),
            "group": Q(group__isnull=False),
            "user": Q(user__isnull=False),
        }.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(chosen)


admin.site.register(Gateway, LiveAdmin)


@admin.register(AccessRule)
class AccessRuleAdmin(admin.ModelAdmin):
    """Who may subscribe, publish and request where."""

    list_display = ("topic", "effect", "action", "who", "enabled", "note", "updated_at")
    list_filter = ("effect", "action", "enabled", WhoFilter)
    list_select_related = ("user", "group")
    search_fields = ("topic", "note", "user__username", "group__name")
    search_help_text = "Search by topic, note, username or group."
    autocomplete_fields = ("user", "group")
    readonly_fields = ("created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("effect", "action", "topic")}),
        ("Who", {"fields": ("user", "group")}),
        (None, {"fields": ("enabled", "note", "created_at", "updated_at")}),
    )

    @admin.display(description="who", ordering="user")
    def who(self, rule: AccessRule) -> str:
        """Whom the rule is for."""
        return rule.who

    def save_model(
        self, request: HttpRequest, obj: AccessRule, form: ModelForm, change: bool
    ) -> None:
        """Save, and say so when the rule can never apply."""
        super().save_model(request, obj, form, change)
        leading = obj.topic.partition(".")[0]
        tokens = settings.topics_for(obj.action)
        channels = {name.partition(".")[0] for name in settings.channels_for(obj.action)}
        if leading not in {"*", ">", *tokens, *channels}:
            messages.warning(
                request,
                f"For '{obj.action}', clients can only name topics that start with one of:"
                f" {', '.join(sorted(tokens))}. This rule never applies.",
            )

    def get_urls(self) -> list[URLPattern]:
        """Add the page that checks access."""
        view = self.admin_site.admin_view(self.check_access_view)
        return [path("check/", view, name="accounts_accessrule_check"), *super().get_urls()]

    def check_access_view(self, request: HttpRequest) -> HttpResponse:
        """Answer whether a user may do an action on a topic, and which rule says so.

        Asked by GET, so that an answer can be linked to and asked again.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = any(name in request.GET for name in CheckAccessForm.base_fields)
        form = CheckAccessForm(self.admin_site, request.GET if asked else None)
        context = {
            **self.admin_site.each_context(request),
            "title": "Check access",
            "opts": self.opts,
            "form": form,
            "media": self.media + form.media,
            "answer": _answer(form) if form.is_valid() else None,
        }
        return TemplateResponse(request, "admin/accounts/accessrule/check_access.html", context)


def _answer(form: CheckAccessForm) -> AccessAnswer | None:
    asked = form.cleaned_data
    try:
        return check_access(asked["user"], asked["action"], asked["topic"])
    except BadTopic as exc:
        # The topic is valid by now: a rule was stored past the validation.
        form.add_error(None, f"A stored rule for this user is malformed. {exc.message}")
        return None


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):
    """Keys for programs. The key is shown once, after it was made."""

    list_display = ("name", "user", "enabled", "created_at", "expires_at", "last_used_at")
    list_filter = ("enabled",)
    list_select_related = ("user",)
    search_fields = ("name", "user__username")
    search_help_text = "Search by name or username."
    autocomplete_fields = ("user",)
    fields = ("user", "name", "enabled", "expires_at", "created_at", "last_used_at")

    def get_readonly_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> list[str]:
        """Fix the user once the token exists: its key is in that user's hands."""
        fields = ["created_at", "last_used_at"]
        return fields if obj is None else ["user", *fields]

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer superusers to superusers only: who holds a key is taken for its user."""
        if db_field.name == "user" and not request.user.is_superuser:
            kwargs["queryset"] = get_user_model()._default_manager.filter(is_superuser=False)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: ApiToken, form: ModelForm, change: bool
    ) -> None:
        """Save; a new token gets its key here, and shows it here only."""
        key = None if change else obj.set_new_key()
        super().save_model(request, obj, form, change)
        if key is not None:
            messages.warning(
                request,
                format_html("Copy the key now, it is not shown again: <code>{}</code>", key),
            )


@admin.register(AuditEntry)
class AuditEntryAdmin(admin.ModelAdmin):
    """Who changed what; to be read, by whoever may view it."""

    list_display = ("at", "actor", "change", "kind", "subject", "differences", "source")
    list_filter = ("kind", "change")
    date_hierarchy = "at"
    search_fields = ("actor", "subject", "source")
    search_help_text = "Search by who did it, by what it is about, or by page or command."
    fields = (
        *("at", "actor", "actor_id", "source", "kind", "change"),
        *("subject", "subject_id", "differences"),
    )
    readonly_fields = ("differences",)

    @admin.display(description="before → after")
    def differences(self, entry: AuditEntry) -> SafeString:
        """What changed, a line each."""
        return format_html_join(
            "",
            "<div>{}: {} → {}</div>",
            ((name, _shown(before), _shown(after)) for name, before, after in entry.differences()),
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody writes it by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        """Nobody changes it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        """Nobody deletes of it."""
        return False


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "(none)"
    return "-" if value in (None, "") else str(value)


@admin.action(description="Disconnect selected users", permissions=["change"])
def disconnect(
    model_admin: admin.ModelAdmin, request: HttpRequest, queryset: QuerySet[Any]
) -> None:
    """Close the sockets of these users on every gateway."""
    done = 0
    try:
        for user in queryset:
            kick(user, "disconnected by an administrator")
            done += 1
    except GatewayError as exc:
        model_admin.message_user(request, exc.message, messages.ERROR)
    if done:
        told = f"Every gateway was told to close the sockets of {done} user(s)."
        model_admin.message_user(request, told, messages.SUCCESS)


def _offer_disconnect() -> None:
    """Add the action to the page of users, Django's or the project's own."""
    user = get_user_model()
    if admin.site.is_registered(user):
        page = type(admin.site.get_model_admin(user))
        actions = (*(page.actions or ()), disconnect)
        admin.site.unregister(user)
        admin.site.register(user, type("UserAdmin", (page,), {"actions": actions}))


_offer_disconnect()
