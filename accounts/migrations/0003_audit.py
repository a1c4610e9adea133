"""The audit log."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Make the table."""

    dependencies = [("accounts", "0002_default_rule")]

    operations = [
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(auto_now_add=True, db_index=True)),
                ("actor", models.CharField(help_text="A user here, else of the machine.", max_length=254)),
                ("actor_id", models.CharField(blank=True, max_length=64)),
                ("source", models.CharField(help_text="The page or the command.", max_length=200)),
                ("kind", models.CharField(choices=[("rule", "Rule"), ("membership", "Membership"), ("token", "API token"), ("user", "User"), ("sockets", "Sockets")], max_length=10)),
                ("change", models.CharField(choices=[("created", "Created"), ("changed", "Changed"), ("deleted", "Deleted"), ("disconnected", "Disconnected")], max_length=12)),
                ("subject", models.CharField(max_length=400)),
                ("subject_id", models.CharField(max_length=64)),
                ("before", models.JSONField(null=True)),
                ("after", models.JSONField(null=True)),
            ],
            options={
                "verbose_name_plural": "audit entries",
                "ordering": ("-at", "-pk"),
            },
        ),
    ]
