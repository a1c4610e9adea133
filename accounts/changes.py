"""Changes of rules and API tokens as one signal, however they are made.

Django's own signals do not come for `update`, `bulk_update` and `bulk_create`; here those count
too. What passes by is SQL, and migrations, whose models are others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from django.db import models, router, transaction
from django.db.models.signals import post_save, pre_delete, pre_save
from django.dispatch import Signal

M = TypeVar("M", bound=type[models.Model])

changed = Signal()
"""Sent with `sender` (the model), `before` and `after` (an object, or None), and `using`.

It comes within the transaction of the change; before a deletion, for what hangs on the object is
gone after it.
"""


class Observed(models.Model):
    """A model whose changes are told, in the transaction that makes them.

    Attributes:
        UNOBSERVED: fields that may be written without a word.
    """

    UNOBSERVED: frozenset[str] = frozenset()

    class Meta:
        """A base, not a table."""

        abstract = True

    def save(self, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        """Save and tell: both or neither."""
        using = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            super().save(*args, using=using, **kwargs)


class ObservedQuerySet(models.QuerySet[Any]):
    """Tells of every object that is changed in bulk."""

    def update(self, **values: Any) -> int:
        """Update, and tell of each object."""
        if self.model.UNOBSERVED.issuperset(values):
            return super().update(**values)
        with transaction.atomic(using=self.db):
            objects = self.model._base_manager.using(self.db)
            before = objects.select_for_update().in_bulk(list(self.values_list("pk", flat=True)))
            count = super().update(**values)
            after = objects.in_bulk(list(before))
            for key, one in before.items():
                _send(one, after.get(key), self.db)
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Create, and tell of each object."""
        with transaction.atomic(using=self.db):
            made = super().bulk_create(objs, *args, **kwargs)
            for one in made:
                _send(None, one, self.db)
        return made


def observed(model: M) -> M:
    """Have a model's saves and deletions told, those of `loaddata` too."""
    pre_save.connect(_saving, sender=model)
    post_save.connect(_saved, sender=model)
    pre_delete.connect(_deleting, sender=model)
    return model


def _saving(sender: type[models.Model], instance: Any, using: str, **kwargs: Any) -> None:
    instance._before = sender._base_manager.using(using).filter(pk=instance.pk).first()


def _saved(instance: Any, using: str, **kwargs: Any) -> None:
    _send(instance.__dict__.pop("_before", None), instance, using)


def _deleting(instance: Any, using: str, **kwargs: Any) -> None:
    _send(instance, None, using)


def _send(before: Any, after: Any, using: str) -> None:
    changed.send(type(before or after), before=before, after=after, using=using)
