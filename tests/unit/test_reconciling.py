"""Which keys differ between a bucket and its documents: the pairing, the rule for one key, and the limit on removals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.document import Status
from worker.domain.errors import PermanentError
from worker.domain.reconciling import Kind, Known, Listed, difference, merge, too_many_gone

# Every Unicode character but the surrogates, those that UTF-16 sorts otherwise than UTF-8 included.
KEYS = st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3), max_size=12)


def listed(key: str = "a", etag: str = "e1") -> Listed:
    return Listed(key, etag, 7)


def known(
    key: str = "a",
    status: Status = Status.INDEXED,
    etag: str | None = "e1",
    hint_etag: str | None = None,
    error_code: str | None = None,
    newer_wanted: bool = False,
) -> Known:
    return Known(key, status, etag, hint_etag, error_code, newer_wanted)


def by_bytes(keys: set[str]) -> list[str]:
    return sorted(keys, key=str.encode)


@given(KEYS, KEYS)
def test_every_key_comes_once_with_its_partner_in_the_order_of_bytes(in_bucket: set[str], in_rows: set[str]) -> None:
    pairs = list(merge(map(listed, by_bytes(in_bucket)), map(known, by_bytes(in_rows))))
    assert [pair[0].key if pair[0] else pair[1].key if pair[1] else None for pair in pairs] == by_bytes(in_bucket | in_rows)
    assert {pair[0].key for pair in pairs if pair[0]} == in_bucket
    assert {pair[1].key for pair in pairs if pair[1]} == in_rows
    assert all(pair[0].key == pair[1].key for pair in pairs if pair[0] and pair[1])


@pytest.mark.parametrize("keys", [["b", "a"], ["a", "b", "b"], ["\U00010000", "\uffff"]])
def test_a_listing_without_order_or_with_a_repeated_page_is_refused(keys: list[str]) -> None:
    with pytest.raises(PermanentError) as caught:
        list(merge(map(listed, keys), map(known, ["a", "b"])))
    assert caught.value.code == "listing_unordered"


ENDED = [Status.INDEXED, Status.FAILED, Status.UNSUPPORTED, Status.NO_TEXT]


@pytest.mark.parametrize("status", [*ENDED, Status.EXTRACTED, Status.EMBEDDING])
def test_a_document_differs_where_another_version_is_listed_than_was_read(status: Status) -> None:
    assert difference(listed(), known(status=status)) is None
    assert difference(listed(etag="e2"), known(status=status)) is Kind.CHANGED
    assert difference(None, known(status=status)) is Kind.GONE


def test_an_object_without_a_document_or_with_a_deleted_one_is_missing() -> None:
    assert difference(listed(), None) is Kind.MISSING
    assert difference(listed(), known(status=Status.DELETED)) is Kind.MISSING
    assert difference(None, known(status=Status.DELETED)) is None


def test_a_document_that_will_be_read_anyway_does_not_differ() -> None:
    for about in (known(status=Status.PENDING, etag=None), known(status=Status.EMBEDDING, newer_wanted=True)):
        assert difference(listed(etag="e2"), about) is None
        assert difference(None, about) is None


def test_what_a_holder_is_reading_is_not_known_but_its_object_may_be_gone() -> None:
    assert difference(listed(etag="e2"), known(status=Status.EXTRACTING)) is None
    assert difference(None, known(status=Status.EXTRACTING)) is Kind.GONE


@pytest.mark.parametrize(("etag", "code"), [("e1", "worker_lost"), ("e2", "worker_lost"), (None, "timeout")])
def test_a_poison_that_left_no_etag_is_known_by_the_event_that_told_of_it(etag: str | None, code: str) -> None:
    poison = known(status=Status.FAILED, etag=etag, hint_etag="e2", error_code=code)
    assert difference(listed(etag="e2"), poison) is None
    assert difference(listed(etag="e1"), poison) is Kind.CHANGED


def test_a_failure_about_an_object_that_was_read_is_known_by_its_etag_and_not_by_an_older_event() -> None:
    damaged = known(status=Status.FAILED, etag="e2", hint_etag="e1", error_code="damaged")
    assert difference(listed(etag="e2"), damaged) is None
    assert difference(listed(etag="e1"), damaged) is Kind.CHANGED


@pytest.mark.parametrize(
    ("gone", "documents", "too_many"),
    [(100, 100, False), (101, 1009, True), (101, 1010, False), (1000, 10_000, False), (1001, 10_000, True), (0, 0, False)],
)
def test_more_than_100_and_more_than_a_tenth_are_too_many(gone: int, documents: int, too_many: bool) -> None:
    assert too_many_gone(gone, documents) is too_many
