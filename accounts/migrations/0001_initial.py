"""Access rules and API tokens."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import accounts.models


class Migration(migrations.Migration):
    """Make both tables."""

    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        help_text="What uses it, for example 'build server'.", max_length=100
                    ),
                ),
                ("digest", models.CharField(editable=False, max_length=64, unique=True)),
                ("enabled", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "expires_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Leave empty for a token that does not expire.",
                        null=True,
                    ),
                ),
                ("last_used_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="api_tokens",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "API token",
                "ordering": ("user", "name", "pk"),
            },
        ),
        migrations.CreateModel(
            name="AccessRule",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "effect",
                    models.CharField(
                        choices=[("allow", "Allow"), ("deny", "Deny")],
                        default="allow",
                        help_text="Deny beats allow. What no rule allows is denied.",
                        max_length=5,
                    ),
                ),
                (
                    "action",
                    models.CharField(
                        choices=[
                            ("subscribe", "Subscribe"),
                            ("publish", "Publish"),
                            ("request", "Request"),
                        ],
                        default="subscribe",
                        max_length=9,
                    ),
                ),
                (
                    "topic",
                    models.CharField(
                        help_text="A topic such as room.lobby, or a pattern: * stands for one"
                        " token, > for the rest, {user_id} for the user's own id.",
                        max_length=200,
                        validators=[accounts.models.validate_pattern],
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                (
                    "note",
                    models.CharField(
                        blank=True, help_text="Why this rule is here.", max_length=200
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "group",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="access_rules",
                        to="auth.group",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        help_text="Leave user and group empty for a rule that is for everyone.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="access_rules",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ("topic", "pk"),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("user__isnull", True), ("group__isnull", True), _connector="OR"
                        ),
                        name="accounts_accessrule_user_or_group",
                        violation_error_message="A rule is for a user, for a group, or for"
                        " everyone: choose a user or a group, not both.",
                    )
                ],
            },
        ),
    ]
