"""What errors of MongoDB mean: the servers' codes, and the words of a driver that cannot connect."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bson import ObjectId
from bson.errors import InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    CursorNotFound,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WriteError,
)

from dtqkit import Job, OutcomeUnknown, SettingsError, StoreUnavailable
from dtqkit.model.errors import DocumentRefused, Reason, redact
from dtqkit.model.events import decode_batch
from dtqkit.model.outcomes import Change, Success
from dtqkit.store import refusals
from dtqkit.store.client import MongoLink, connect, store_errors
from dtqkit.store.jobs import Jobs
from dtqkit.store.many import ManyJobs
from dtqkit.store.minutes import Minutes
from dtqkit.store.settlements import Settlement
from dtqkit.transitions import settle
from dtqkit.web.problem import problem_of
from dtqkit.worker.attempt_log import AttemptLog
from dtqkit.worker.claim import Claimed
from dtqkit.worker.report import error_of
from dtqkit.worker.settle import Settler

CODES: dict[Reason | None, set[int]] = {
    "away": {6, 7, 50, 89, 91, 262, 9001, 11600},
    "electing": {133, 134, 189, 10058, 10107, 11602, 13435, 13436},
    # Out of space, blocked, over quota, interrupted, stale config, cursor gone, conflict, and an unknown code.
    "refused": {8000, 14031, 371, 11601, 13388, 43, 112, 1, 2, 8, 9, 17, 26, 27, 46, 117, 215, 10003, 99_999},
    "not_allowed": {11, 13, 18, 31, 334, 391},
    "misconfigured": {76, 79, 93, 94, 100, 123, 148},
    "unsupported": {59, 115, 168, 238, 303, 323, 40324, 40415},
    None: {14, 15, 22, 28, 52, 55, 56, 57, 66, 121, 10334, 11000, 11001, 12582, 16554, 17280, 17419, 17420},
}
ROWS = [(code, reason) for reason, codes in CODES.items() for code in sorted(codes)]


def raised(error: BaseException, **how: Any) -> Exception:
    with pytest.raises(Exception) as caught, store_errors(MongoLink("mongodb://u:secret@h/"), **how):  # noqa: PT011 - whatever it is
        raise error
    assert "secret" not in f"{caught.value} {caught.value!r}"
    return caught.value


@pytest.mark.parametrize(("code", "reason"), ROWS)
def test_each_code_means_one_thing_wherever_it_comes_from(code: int, reason: Reason | None) -> None:
    words = "the server's own words"
    one = raised(OperationFailure(words, code), writes=True, document=True)
    bulk = raised(
        BulkWriteError({"writeErrors": [{"code": code, "errmsg": words}], "writeConcernErrors": []}),
        writes=True,
        document=True,
    )
    if reason is None:
        assert type(one) is DocumentRefused
        assert type(bulk) is (BulkWriteError if code == 11_000 else DocumentRefused)
        # Where no document of ours is written, nothing is about one.
        assert cast(StoreUnavailable, raised(OperationFailure(words, code), writes=True)).reason == "refused"
        assert cast(StoreUnavailable, raised(OperationFailure(words, code))).reason == "refused"
        return
    for error in (one, bulk, raised(OperationFailure(words, code)), raised(WriteError(words, code), writes=True)):
        assert isinstance(error, StoreUnavailable)
        assert error.reason == reason
        assert error.passes is (reason in ("away", "electing", "refused"))
        assert problem_of(error, "r").status == 503
        assert words in str(error) or "no answer in time" in str(error)
    assert isinstance(one, OutcomeUnknown) is (reason in ("away", "electing"))


@pytest.mark.parametrize(
    ("code", "words", "reason", "said"),
    [
        (20, "Transaction numbers are only allowed on a replica set member or mongos", "misconfigured", "--replSet"),
        (8000, "bad auth : Authentication failed.", "not_allowed", "refuses the user"),
        (8000, "user is not allowed to do action [insert] on [d.jobs]", "not_allowed", "readWrite"),
        (8000, "you are over your space quota, using 517 MB of 512 MB", "refused", "over your space quota"),
        (13, "not authorized on d to execute command", "not_allowed", "readWrite"),
        (18, "Authentication failed.", "not_allowed", "refuses the user"),
    ],
)
def test_codes_with_several_meanings_are_distinguished_by_their_message(
    code: int, words: str, reason: Reason, said: str
) -> None:
    error = cast(StoreUnavailable, raised(OperationFailure(words, code), writes=True))
    assert (error.reason, said in str(error)) == (reason, True)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (NotPrimaryError("not primary", {"code": 10107}), OutcomeUnknown, "electing"),
        (AutoReconnect("h:27017: connection closed"), OutcomeUnknown, "away"),
        (NetworkTimeout("h:27017: timed out"), OutcomeUnknown, "away"),
        (ExecutionTimeout("operation exceeded time limit", 50), OutcomeUnknown, "away"),
        (WriteConcernError("waiting for replication timed out", 64, {}), OutcomeUnknown, "away"),
        (AttributeError("'RawBSONDocument' object has no attribute 'update'"), OutcomeUnknown, "away"),
        (ServerSelectionTimeoutError("No servers found yet, Timeout: 1.5s"), StoreUnavailable, "away"),
        (CursorNotFound("cursor id 1 not found", 43), StoreUnavailable, "refused"),
        (DocumentTooLarge("too large"), DocumentRefused, None),
        (InvalidDocument("cannot encode object"), DocumentRefused, None),
        (OverflowError("MongoDB can only handle up to 8-byte ints"), DocumentRefused, None),
        (UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed"), DocumentRefused, None),
        (RecursionError("maximum recursion depth exceeded"), DocumentRefused, None),
        (ValueError("embedded null byte"), DocumentRefused, None),
        (DuplicateKeyError("E11000", 11_000, {}), DuplicateKeyError, None),
        (AttributeError("'int' object has no attribute 'x'"), AttributeError, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_error_of_the_driver_means_one_thing(error: Exception, kind: type, reason: Reason | None) -> None:
    found = raised(error, writes=True, document=True)
    assert (type(found), getattr(found, "reason", None)) == (kind, reason)


def test_a_write_that_is_sent_once_to_a_member_that_is_not_primary_is_not_done() -> None:
    not_primary = NotPrimaryError("not primary", {"code": 10107})
    interrupted = NotPrimaryError("operation was interrupted", {"code": 11602})
    assert type(raised(not_primary, writes=True, once=True)) is StoreUnavailable
    assert type(raised(interrupted, writes=True, once=True)) is OutcomeUnknown


def test_a_bulk_that_is_refused_in_part_is_kept_as_a_whole() -> None:
    about_it, full = {"code": 17419, "errmsg": "too large"}, {"code": 14031, "errmsg": "no space"}
    both = BulkWriteError({"writeErrors": [about_it, full], "nInserted": 1})
    assert type(raised(both, writes=True, document=True)) is OutcomeUnknown
    none = BulkWriteError({"writeErrors": [full, full], "nInserted": 0})
    assert type(raised(none, writes=True, document=True)) is StoreUnavailable


def test_a_successful_write_clears_the_recorded_refusal() -> None:
    link = MongoLink("mongodb://h")
    with pytest.raises(StoreUnavailable), store_errors(link, writes=True):
        raise OperationFailure("blocked", 371)
    with store_errors(link):
        pass
    assert link.refused is not None
    with store_errors(link, writes=True):
        pass
    assert link.refused is None


@pytest.mark.parametrize(
    ("words", "reason", "cure"),
    [
        ("h:27017: [Errno 111] Connection refused (configured timeouts: x)", "away", "nothing listens there"),
        ("h:27017: [Errno -2] Name or service not known", "away", "cannot be resolved"),
        ("The DNS query name does not exist: _mongodb._tcp.h.", "away", "cannot be resolved"),
        ("SSL handshake failed: h:27017: [SSL: TLSV1_ALERT_INTERNAL_ERROR] tlsv1 alert", "away", "IP access list"),
        ("h: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed", "misconfigured", "tlsCAFile"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] ... Hostname mismatch, certificate is not valid for 'h'", "misconfigured",
         "another host name"),
        ("SSL handshake failed: h: [SSL: WRONG_VERSION_NUMBER] wrong version number", "misconfigured", "not speak TLS"),
        ("h:27017: connection closed", "away", "tls=true"),
        ("h:27017: connection is already closed", "away", "tls=true"),
        ("h:27017: timed out", "away", "IP access list"),
        ("Server at h:27017 reports wire version 5, but this version of PyMongo requires at least 8", "unsupported",
         "6.0 or later"),
        ("client is configured to connect to a replica set named 'a' but this node belongs to a set named 'b'",
         "misconfigured", "its set is 'b'"),
        ("client is configured to connect to a replica set named 'a' but this node belongs to a set named 'None'",
         "misconfigured", "is not a member of a replica set"),
        ("something else", "away", "something else"),
    ],
)  # fmt: skip
def test_what_a_driver_says_that_cannot_connect_comes_with_its_cure(words: str, reason: Reason, cure: str) -> None:
    verdict = refusals.of_connecting(words)
    assert (verdict.reason, cure in verdict.words, "\n" in verdict.words) == (reason, True, False)


def test_a_server_without_a_replica_set_is_not_reported_as_a_set_named_none() -> None:
    words = "client is configured to connect to a replica set named 'rs0' but this node belongs to a set named 'None'"
    verdict = refusals.of_connecting(words)
    assert "None" not in verdict.words
    assert "--replSet NAME" in verdict.words
    assert "rs.initiate()" in verdict.words


@pytest.mark.parametrize(
    ("heartbeat", "reason", "words"),
    [
        (None, "away", "no answer yet"),
        ("h:1: [Errno 111] Connection refused", "away", "nothing listens there"),
        ("h:1: timed out", "away", "a firewall"),
        ({"setName": "rs", "secondary": True}, "away", "no server answers"),
        ({"isreplicaset": True}, "refused", "rs.initiate()"),
        ({"isWritablePrimary": True}, "misconfigured", "is not a member of a replica set"),
        ({"msg": "isdbgrid"}, "misconfigured", "of a mongos, leave out replicaSet"),
    ],
)
def test_a_direct_connection_is_judged_by_the_last_heartbeat(
    heartbeat: dict[str, object] | str | None, reason: Reason, words: str
) -> None:
    verdict = refusals.of_no_set(heartbeat)
    assert (verdict.reason, words in verdict.words) == (reason, True)


def test_a_set_without_a_primary_is_recognised_by_its_members() -> None:
    electing = refusals.of_members(["RSSecondary", "Unknown", "RSSecondary"], "rs", "h: closed")
    assert (electing.reason, "2 of 3 members answer" in electing.words) == ("electing", True)
    wrong_name = refusals.of_members([], "rs9", "")
    assert (wrong_name.reason, "'rs9'" in wrong_name.words) == ("misconfigured", True)
    new = refusals.of_members(["RSGhost"], None, "")
    assert (new.reason, "rs.initiate()" in new.words) == ("refused", True)  # it may be, in a moment


def test_a_server_that_answers_but_cannot_be_used_is_reported_with_the_reason() -> None:
    good = {"setName": "rs", "maxWireVersion": 17}
    assert refusals.of_hello(good) is None
    assert refusals.of_hello({"msg": "isdbgrid", "maxWireVersion": 17}) is None
    bad: list[tuple[dict[str, object], str]] = [
        ({"maxWireVersion": 17}, "standalone"),
        ({"maxWireVersion": 17, "isreplicaset": True}, "not initiated"),
        ({**good, "maxWireVersion": 9}, "too old"),
    ]
    for hello, said in bad:
        verdict = refusals.of_hello(hello)
        assert verdict is not None
        assert said in verdict.words


def test_words_of_a_server_are_bounded_and_have_no_address_with_a_password() -> None:
    error = raised(OperationFailure(f"see mongodb://u:secret@h/ {'x' * 10_000}\nmore", 371), writes=True)
    assert len(str(error)) < 500
    assert "\n" not in str(error)
    assert redact(str(error)) == str(error)


def test_over_http_a_refusal_says_why_and_not_where() -> None:
    electing = raised(NotPrimaryError("not primary", {"code": 10107}), writes=True)
    problem = problem_of(cast(StoreUnavailable, electing), "r")
    assert (problem.status, problem.code) == (503, "outcome_unknown")
    assert "electing a primary: safe to try again" in problem.detail
    assert "mongodb://" not in problem.detail
    taken = raised(DocumentTooLarge("too large"), writes=True, document=True)
    assert problem_of(cast(DocumentRefused, taken), "r").status == 422


@pytest.mark.parametrize("option", ["tlsCAFile", "tlsCertificateKeyFile"])
def test_a_missing_file_is_reported_in_one_line(option: str) -> None:
    with pytest.raises(SettingsError, match=r"^ATLAS_URI names a file that cannot be used: /no/file.pem: No such"):
        connect(MongoLink(f"mongodb://u:secret@h/?tls=true&{option}=/no/file.pem"))


def test_timeouts_of_the_uri_count_and_distance_is_added() -> None:
    near = MongoLink("mongodb://h")
    assert near.within(1.5) == 1.5
    patient = MongoLink("mongodb://h/?serverSelectionTimeoutMS=5000&replicaSet=rs")
    assert patient.within(1.5) == 5.0
    for trip_s in (4.0, 0.6, 0.7):  # what took long once is no distance
        near.measured(trip_s)
    assert near.within(1.5) == pytest.approx(1.5 + 6 * 0.6)


# -- ends


def claimed(**more: Any) -> Claimed:
    job = Job(
        id=str(ObjectId()),
        task="t",
        payload={},
        status="running",
        created_at=datetime.now(UTC),
        claim_number=1,
        rev=2,
        **more,
    )
    return Claimed(ObjectId(job.id), ObjectId(), job, 0.0, 0.0)


async def settled(refuse: Callable[[Any], Exception | None], *ends: Claimed) -> tuple[Settler, list[Any], list[Any]]:
    """What is written and what is published, of successes, where `refuse` gives the record's answer to an end."""
    written: list[Any] = []
    events: list[Any] = []

    async def settle(settlements: list[Any]) -> set[int]:
        for one in settlements:
            if (error := refuse(one)) is not None:
                raise error
        written.extend(settlements)
        return set()

    async def push(_ready: object, later: dict[str, float], batch: bytes) -> None:
        events.extend([*decode_batch(batch).jobs, later])

    async def none(*_: object, **__: object) -> list[Any]:
        return []

    jobs = SimpleNamespace(settle=settle, find=none)
    store: Any = SimpleNamespace(jobs=jobs, dead=SimpleNamespace(project=none), now=lambda: datetime.now(UTC))
    broker: Any = SimpleNamespace(push=push, put_back=none)
    settler = Settler(broker, store, settled=lambda _: None, rng=random.Random(1))
    for one in ends:
        settler.put(one, Success(1, 2.0), None, AttemptLog())
    settler.finish()
    await settler.run()
    return settler, written, events


def test_what_is_published_of_an_end_is_what_was_written() -> None:
    bad, good = claimed(max_attempts=3), claimed()

    def refuse(one: Any) -> Exception | None:
        refused = one.id == bad.id and one.change.status == "completed"
        return DocumentRefused("MongoDB does not take this document: too large") if refused else None

    settler, written, events = asyncio.run(settled(refuse, bad, good))
    assert {one.id: one.change.status for one in written} == {bad.id: written[0].change.status, good.id: "completed"}
    published_status = {event.id: event.status for event in events[:-1]}
    assert published_status == {str(one.id): one.change.status for one in written}
    assert published_status[bad.job.id] != "completed"
    later = bool(events[-1])
    assert later is (published_status[bad.job.id] == "scheduled")
    assert (settler.completed, settler.failed) == (1, 1)


def test_an_end_is_kept_whatever_else_goes_wrong() -> None:
    tries: list[int] = []

    def refuse(_: Any) -> Exception | None:
        tries.append(1)
        errors: list[Exception] = [
            StoreUnavailable("MongoDB", "", "refuses for now"),
            RuntimeError("a mistake of ours"),
        ]
        return errors[len(tries) - 1] if len(tries) <= len(errors) else None

    settler, written, _ = asyncio.run(settled(refuse, claimed()))
    assert [one.change.status for one in written] == ["completed"]
    assert settler.completed == 1


def deep() -> Any:
    value: Any = None
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("result", ["\udc80", {"$\udc80": 1}, deep()], ids=["text", "key", "depth"])
def test_a_result_that_cannot_be_encoded_is_a_refused_document(result: Any) -> None:
    one = claimed()
    change = Change(status="completed", ending="completed", result=result)
    never: Any = None
    jobs = Jobs(SimpleNamespace(with_options=lambda _: never), MongoLink("mongodb://h"), never)  # type: ignore[arg-type]
    ends = [Settlement(one.id, one.claim, 1, change, None)] * 2
    with pytest.raises(DocumentRefused):
        asyncio.run(jobs.settle(ends))


@pytest.mark.parametrize("error", [DocumentRefused("a validator"), RuntimeError("a mistake of ours")], ids=repr)
def test_an_end_that_is_refused_in_every_form_is_left_to_its_lease_and_stops_no_other(
    error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "MAX_PAUSE_S", 0.01)
    bad, good = claimed(), [claimed() for _ in range(4)]

    async def scenario() -> list[Any]:
        async with asyncio.timeout(30):
            _, written, _ = await settled(lambda one: error if one.id == bad.id else None, *good[:2], bad, *good[2:])
        return written

    written = asyncio.run(scenario())
    assert {one.id for one in written} == {one.id for one in good}
    unrecorded = [line for line in caplog.messages if "the job is recovered when its lease expires" in line]
    assert len(unrecorded) == 1
    assert bad.job.id in unrecorded[0]


def test_what_is_recorded_of_an_exception_can_be_stored_whatever_its_class_is_called() -> None:
    odd = type("Odd" * 5000, (Exception,), {"__module__": "a\0b\udc80" + "x" * 10_000})
    error = error_of(odd("m\udc80"))
    for text in (error.type, error.module, error.message):
        assert "\0" not in text.encode().decode()
        assert len(text) < 2100


def test_an_exception_whose_class_has_no_usable_name_is_still_recorded() -> None:
    class Nameless(type):
        @property
        def __name__(cls) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
            raise RuntimeError("no name")

    class Odd(Exception, metaclass=Nameless):
        pass

    error = error_of(Odd("m"))
    assert (error.type, error.message) == ("(its name cannot be shown: RuntimeError)", "m")


class Unsure:
    """A collection whose bulks are done, but not on a majority of the members."""

    async def bulk_write(self, *_: object, **__: object) -> None:
        raise BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "timed out"}]})


def test_a_bulk_that_is_not_known_to_be_on_a_majority_is_never_taken_as_done() -> None:
    link, collection = MongoLink("mongodb://h/"), cast(Any, Unsure())
    now = datetime.now(UTC)
    doc = {"_id": now, "counts": []}
    for write in (
        ManyJobs(collection, link).requeue([{"_id": ObjectId(), "death_seq": 1}]),
        Minutes(collection, collection, link)._write([doc], None, now, now),  # pyright: ignore[reportPrivateUsage]
    ):
        with pytest.raises(OutcomeUnknown, match="majority"):
            asyncio.run(write)


def test_only_a_document_that_is_stored_shows_that_mongodb_takes_inserts() -> None:
    link = MongoLink("mongodb://h")
    with store_errors(link, writes="insert"):
        pass  # as of an upsert that has found its document
    assert link.inserted_at == float("-inf")
    link.note_insert()
    assert 0 <= time.monotonic() - link.inserted_at < 60
