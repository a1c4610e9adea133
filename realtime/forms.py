"""Forms of the gateway's pages."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser


class NotificationForm(forms.Form):
    """A notification that staff sends to one user."""

    username = forms.CharField(
        label="To",
        max_length=150,
        help_text="A username.",
        error_messages={"required": "Say who it is for."},
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    title = forms.CharField(
        max_length=120,
        error_messages={"required": "Give it a title."},
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    message = forms.CharField(
        max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 4})
    )

    # Names this form as it was handed out, see message_id().
    nonce = forms.UUIDField(required=False, initial=uuid.uuid4, widget=forms.HiddenInput)

    recipient: AbstractBaseUser

    def clean_username(self) -> str:
        """Find the recipient.

        Raises:
            ValidationError: nobody who could read it has that name.
        """
        username: str = self.cleaned_data["username"]
        users = get_user_model()
        try:
            self.recipient = users._default_manager.get_by_natural_key(username)
        except users.DoesNotExist as exc:
            raise forms.ValidationError(f"There is no user named “{username}”.") from exc
        if not self.recipient.is_active:
            raise forms.ValidationError(f"The account “{username}” is not active.")
        return username

    def payload(self) -> dict[str, Any]:
        """Return what is published."""
        payload = {"title": self.cleaned_data["title"]}
        if message := self.cleaned_data["message"]:
            payload["body"] = message
        return payload

    def message_id(self) -> str:
        """Return the same id for the same words from the same form.

        Sent again (a double click, or a retry after "not confirmed"), they are stored once.
        """
        nonce = self.cleaned_data["nonce"] or uuid.uuid4()
        words = (str(self.recipient.pk), self.cleaned_data["title"], self.cleaned_data["message"])
        return str(uuid.uuid5(nonce, "\0".join(words)))


class ReadForm(forms.Form):
    """Up to where notifications are read; the names are those of the frames."""

    seqNo = forms.IntegerField(min_value=0, max_value=2**53)  # noqa: N815
    epoch = forms.CharField(max_length=64)
