"""The test provider without its sockets: a request in, a reply out. Time is an argument; nothing here waits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support import provider_faults as faults
from tests.support import provider_habits as habits
from tests.support import provider_rules as rules
from tests.support.provider_behaviour import Behaviour
from tests.support.provider_counts import Bill, Counts
from tests.support.provider_faults import Fault, Kind
from tests.support.provider_limits import state_headers, wait_headers
from tests.support.provider_rules import Problem
from tests.support.provider_vectors import Writer, written

JSON = "application/json"


@dataclass(slots=True)
class Reply:
    """What to send, and how: after ``delay`` seconds, as ``kind`` says. ``counts`` are those that its end is reported to."""

    status: int
    payload: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON
    delay: float = 0.0
    kind: Kind = Kind.NONE
    seconds: float = 0.0
    bill: Bill | None = None
    counts: Counts | None = None

    def ended(self, delivered: bool) -> None:
        if self.counts is not None:
            useless = self.kind in faults.USELESS
            self.counts.leave(0 if self.kind in faults.DROPS else self.status, self.bill, delivered, useless)


class Core:
    """Answers requests by its behaviour, and counts. ``failures`` go before everything: (HTTP status, code, headers).

    ``texts`` is the inputs of each request that was worked on, where somebody wants them (None: they are not kept).
    """

    def __init__(self, behaviour: Behaviour, texts: list[list[str]] | None = None) -> None:
        self.at_start = behaviour
        self.failures: list[tuple[int, str, dict[str, str]]] = []
        self.texts = texts
        self._writer = Writer()
        self._free_at = 0.0
        self.reset()

    def reset(self, counts_only: bool = False) -> None:
        """Forget what was counted; and behave as at the start, with full limits, unless ``counts_only``."""
        self.counts = Counts()
        self._free_at = 0.0
        if self.texts is not None:
            self.texts.clear()
        if not counts_only:
            self.failures.clear()
            self.behaviour = self.at_start
            self._limits = self.behaviour.limits
            self._draw = faults.Draw(self.behaviour.seed, self.behaviour.script, self.behaviour.chances)

    def counts_as_json(self) -> dict[str, Any]:
        return self.counts.as_json()

    def change(self, values: Mapping[str, Any]) -> None:
        """Behave differently from now on. Limits are fresh if one of their fields is given, and so is the chance of faults.

        Raises:
            ValueError: there is no such field, or a value can't be.
        """
        self.behaviour = self.behaviour.changed(values)
        names = set(values)
        if names & {"requests_per_minute", "tokens_per_minute", "algorithm", "minute", "burst", "charge_refused"}:
            self._limits = self.behaviour.limits
        if names & {"seed", "script", "chances"}:
            script = self.behaviour.script if "script" in names else self._draw.script
            self._draw = faults.Draw(self.behaviour.seed, script, self.behaviour.chances)

    def handle(self, method: str, path: str, key: str, body: bytes, now: float, wall: float) -> Reply:
        """Answer one request. The caller sends the reply and calls its ``ended``."""
        self.counts.arrive(f"{method} {path}")
        if method != "POST" or not path.endswith("/embeddings"):
            reply = Reply(404, Problem(404, f"Invalid URL ({method} {path})").payload)
        else:
            reply = self._embeddings(key, body, now, wall)
        reply.counts = self.counts
        reply.headers = {**state_headers(self._limits, self.behaviour.headers, now), **reply.headers}
        reply.delay += self.behaviour.latency
        return reply

    def _embeddings(self, key: str, body: bytes, now: float, wall: float) -> Reply:
        if self.failures:
            status, code, headers = self.failures.pop(0)
            return Reply(status, Problem(status, "injected", "test", code).payload, dict(headers))
        fault = self._draw.next()
        if fault.kind is not Kind.NONE:
            self.counts.faults[fault.kind] += 1
        try:
            request = json.loads(body)
        except ValueError:
            return self._refused(Problem(400, "We could not parse the JSON body of your request."))
        model = str(request.get("model", "")) if isinstance(request, dict) else ""
        if fault.kind in faults.DROPS:
            return Reply(0, b"", kind=fault.kind)
        if fault.kind in faults.REFUSALS:
            return self._faulty(fault, model, wall)
        allowed = self.behaviour
        if allowed.keys is not None and key not in allowed.keys:
            return self._refused(rules.bad_key())
        if allowed.models is not None and model not in allowed.models:
            return self._refused(rules.unknown_model(model))
        inputs = rules.inputs_of(request)
        if isinstance(inputs, Problem):
            return self._refused(inputs)
        tokens = [rules.tokens_of(text) for text in inputs]
        problem = rules.check(inputs, tokens, allowed.sizes)
        if problem is not None:
            return self._refused(problem)
        refusal = self._limits.take(sum(tokens), now)
        if refusal is not None:
            self.counts.limited += 1
            headers = wait_headers(refusal.wait, allowed.minute, allowed.headers, wall)
            return self._refused(rules.limited(refusal, model), headers)
        if allowed.habit is not None:
            said = habits.said(allowed.habit, [str(text) for text in inputs], request.get("encoding_format"), allowed.poison)
            if said is not None:
                return Reply(said.status, said.payload, content_type=said.content_type)
        return self._worked(request, model, inputs, sum(tokens), fault, now)

    def _worked(
        self, request: Mapping[str, Any], model: str, inputs: list[rules.Input], tokens: int, fault: Fault, now: float
    ) -> Reply:
        digests = [rules.digest_of(text) for text in inputs]
        bill = Bill(now, model, digests, tokens, told=fault.kind not in faults.UNREADABLE)
        self.counts.bill(bill)
        if self.texts is not None:
            self.texts.append([text if isinstance(text, str) else repr(text) for text in inputs])
        payload = self._payload(request, model, inputs, digests, tokens, fault.kind)
        reply = Reply(200, faults.spoiled_payload(fault.kind, payload), kind=fault.kind, seconds=fault.seconds, bill=bill)
        reply.delay = self.behaviour.latency_per_input * len(inputs) + (fault.seconds if fault.kind is Kind.LATE else 0.0)
        if fault.kind is Kind.HTML:
            reply.content_type = "text/html"
        if self.behaviour.serial_latency:
            self._free_at = max(now, self._free_at) + self.behaviour.serial_latency * len(inputs)
            reply.delay += self._free_at - now
        if self.behaviour.habit == "poison_hang" and any(self.behaviour.poison in str(text) for text in inputs):
            reply.delay += 3600.0
        return reply

    def _payload(
        self,
        request: Mapping[str, Any],
        model: str,
        inputs: list[rules.Input],
        digests: list[bytes],
        tokens: int,
        kind: Kind,
    ) -> bytes:
        dimensions = int(request.get("dimensions") or self.behaviour.dimensions)
        as_base64 = request.get("encoding_format") == "base64"
        way, writer, last = self.behaviour.vectors, self._writer, len(inputs) - 1
        items = []
        habit, poison = self.behaviour.habit or "", self.behaviour.poison
        kept = habits.kept(habit, [str(text) for text in inputs], poison) if habit else range(len(inputs))
        for index, place in faults.spoiled_places(kind, len(inputs), self.behaviour.seed):
            text = str(inputs[place])
            if habit:
                if place in kept:
                    vector = writer.vector(way, text, digests[place], dimensions)
                    literal = habits.written_vector(habit, text, place, vector, as_base64, poison)
                    number = habits.index(habit, index)
                    items.append(b'{"object":"embedding",%b"embedding":%b}' % (number, literal))
                continue
            if kind in (Kind.NAN, Kind.WRONG_DIMENSIONS):
                vector = writer.vector(way, text, digests[place], dimensions)
                literal = written(faults.spoiled_vector(kind, vector, place == last), as_base64)
            else:
                literal = writer.written(way, text, digests[place], dimensions, as_base64)
            items.append(b'{"object":"embedding","index":%d,"embedding":%b}' % (index, literal))
        usage = (
            b""
            if kind is Kind.NO_USAGE or habit == "nousage"
            else b',"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)
        )
        return b'{"object":"list","model":%b,"data":[%b]%b}' % (json.dumps(model).encode(), b",".join(items), usage)

    def _faulty(self, fault: Fault, model: str, wall: float) -> Reply:
        """One of the refusals that nothing but chance or a script asked for."""
        match fault.kind:
            case Kind.THROTTLED:
                minute = self.behaviour.minute
                wait = minute / 60 if fault.retry_after is None else fault.retry_after
                headers = wait_headers(wait, minute, self.behaviour.headers, wall)
                problem = Problem(429, "Rate limit reached.", "requests", "rate_limit_exceeded")
                return self._refused(problem, {**headers, **fault.headers})
            case Kind.THROTTLED_BARE:
                return self._refused(Problem(429, "Rate limit reached.", "requests", "rate_limit_exceeded"))
            case Kind.QUOTA:
                return self._refused(rules.quota(), fault.headers)
            case Kind.KEY:
                return self._refused(rules.bad_key(), fault.headers)
            case Kind.MODEL:
                return self._refused(rules.unknown_model(model), fault.headers)
        headers = dict(fault.headers)
        if fault.retry_after is not None:
            headers["retry-after"] = f"{fault.retry_after:g}"
        reply = self._refused(rules.server_error(fault.status), headers)
        if fault.status == 502:
            reply.payload, reply.content_type = faults.HTML_PAGE, "text/html"
        return reply

    @staticmethod
    def _refused(problem: Problem, headers: Mapping[str, str] | None = None) -> Reply:
        return Reply(problem.status, problem.payload, dict(headers or {}))
