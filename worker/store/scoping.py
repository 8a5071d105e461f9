"""A scope as SQL: the one place that says which documents a caller sees."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, false, or_

from worker.domain.scope import Scope
from worker.store.models import Document


def visible(scope: Scope) -> ColumnElement[bool]:
    """The condition that every read of documents carries: within the scope's buckets and prefixes."""
    in_buckets = Document.bucket.in_(scope.buckets)
    if "" in scope.prefixes:
        return in_buckets
    # "Starts with", not LIKE: a prefix may hold % and _ . As an operator, its selectivity is known to the planner.
    return and_(in_buckets, or_(false(), *(Document.key.op("^@", is_comparison=True)(prefix) for prefix in scope.prefixes)))
