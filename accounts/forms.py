"""Forms of the admin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib.admin.sites import AdminSite
from django.contrib.admin.widgets import AdminTextInputWidget, AutocompleteSelect
from django.contrib.auth import get_user_model

from realtime.conf import settings
from realtime.protocol.exceptions import BadTopic

from .models import AccessRule, Action

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class UserSelect(AutocompleteSelect):
    """Django's autocomplete, which fails to render a value that is no id."""

    def optgroups(self, name: str, value: Sequence[str], attr: Any = None) -> list[Any]:
        """Return the chosen user, if it is one: the page is asked by GET, so it may be anything."""
        try:
            return super().optgroups(name, value, attr)
        except ValueError:
            return super().optgroups(name, [], attr)


class CheckAccessForm(forms.Form):
    """May this user do that there?"""

    required_css_class = "required"

    user: forms.ModelChoiceField[User] = forms.ModelChoiceField(queryset=None)
    action = forms.ChoiceField(choices=Action.choices)
    topic = forms.CharField(
        widget=AdminTextInputWidget(attrs={"spellcheck": "false", "autocapitalize": "none"}),
        help_text="One topic, without wildcards, for example room.lobby.",
    )

    def __init__(self, site: AdminSite, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        users = cast("forms.ModelChoiceField[User]", self.fields["user"])
        users.queryset = get_user_model()._default_manager.all()
        users.widget = UserSelect(AccessRule._meta.get_field("user"), site)
        users.widget.choices = users.choices

    def clean(self) -> dict[str, Any]:
        """Require a topic that clients may name for the action."""
        cleaned = super().clean() or {}
        if "topic" in cleaned and "action" in cleaned:
            try:
                settings.require_topic(cleaned["action"], cleaned["topic"])
            except BadTopic as exc:
                self.add_error("topic", forms.ValidationError(exc.message, code="topic"))
        return cleaned
