"""Make the rule every user starts with visible: an administrator can read it, and change it."""

from django.db import migrations


def add_default_rule(apps, schema_editor):
    """Let everyone subscribe to their own user topics, unless that rule is there."""
    apps.get_model("accounts", "AccessRule").objects.using(
        schema_editor.connection.alias
    ).get_or_create(
        user=None,
        group=None,
        effect="allow",
        action="subscribe",
        topic="user.{user_id}.>",
        defaults={"note": "Made at installation: all users may receive what is sent to them."},
    )


class Migration(migrations.Migration):
    """Data only; going back keeps the rule, since it may have been edited."""

    dependencies = [("accounts", "0001_initial")]

    operations = [migrations.RunPython(add_default_rule, migrations.RunPython.noop)]
