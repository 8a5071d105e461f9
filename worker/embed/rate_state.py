"""The state that all processes share of one account's limits: a hash in Redis or Valkey, and the scripts that change it.

Each script runs as one step on the server and by the server's clock. The arithmetic is that of ``worker.domain.rates``, in Lua.
The hash holds both buckets (``requests_full_at``, ``tokens_full_at``), ``paused_until``, the learned ratio as two sums
(``tokens``, ``size``), and ``born``, by which an emptied server is noticed. It expires a week after the last request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.domain.rates import LEAST_RATIO, MEMORY_BYTES, MOST_RATIO, Rates, TokenRatio

PREFIX = "lex-ingest:rate:"
# Seconds that one exchange may take: the sender's document is leased, and the share of the process is always there.
TIMEOUT = 0.5
_EXPIRES = 7 * 86_400
# Seconds. What lies further ahead was written by a clock that has since been set back.
_FURTHEST = 21_600

_COMMON = f"""
local key = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local function number(name, otherwise)
  return tonumber(redis.call('HGET', key, name) or otherwise)
end
local function moment(name)
  local at = number(name, '0')
  if at > now + {_FURTHEST} then return 0 end
  return at
end
local function keep(name, value)
  -- Without a format Lua writes 14 digits: a tenth of a millisecond.
  redis.call('HSET', key, name, string.format('%.6f', value))
end
local function after(full_at, at, amount, per_second)
  return math.max(full_at, at) + amount / per_second
end
local function book(at, requests, requests_per_second, tokens, tokens_per_second)
  if requests_per_second > 0 then
    keep('requests_full_at', after(moment('requests_full_at'), at, requests, requests_per_second))
  end
  if tokens_per_second > 0 then
    keep('tokens_full_at', after(moment('tokens_full_at'), at, tokens, tokens_per_second))
  end
  redis.call('EXPIRE', key, {_EXPIRES})
end
"""

# The first four arguments are the rates; then size, the ratio that this process knows (tokens, size), most_wait, and from
# a sender that has waited, what it was given: born, tokens.
_RESERVE = f"""
local requests_per_second, requests_burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local tokens_per_second, tokens_burst = tonumber(ARGV[3]), tonumber(ARGV[4])
local born, paused_until = redis.call('HGET', key, 'born'), moment('paused_until')
local known, known_size = number('tokens', ARGV[6]), number('size', ARGV[7])
if born and born == ARGV[9] and paused_until <= now then
  return {{1, '0', '0', born, ARGV[10], tostring(known), tostring(known_size)}}
end
local ratio = math.min({MOST_RATIO}, math.max({LEAST_RATIO}, known / known_size))
local tokens = math.ceil(tonumber(ARGV[5]) * ratio)
local function earliest(full_at, per_second, burst, amount)
  if per_second == 0 then return now end
  return math.max(now, full_at - (burst - math.min(amount, burst)) / per_second)
end
local at = math.max(
  earliest(moment('requests_full_at'), requests_per_second, requests_burst, 1),
  earliest(moment('tokens_full_at'), tokens_per_second, tokens_burst, tokens),
  paused_until)
local booked = at - now <= tonumber(ARGV[8])
if booked then
  if not born then
    born = string.format('%.6f', now)
    redis.call('HSET', key, 'born', born)
  end
  book(at, 1, requests_per_second, tokens, tokens_per_second)
end
return {{booked and 1 or 0, string.format('%.6f', at - now), string.format('%.6f', math.max(0, paused_until - now)),
  born or '', tostring(tokens), tostring(known), tostring(known_size)}}
"""

# Rates as above, born, requests and tokens to book more (or less, below 0), the ratio known here, tokens and size to learn.
_CORRECT = f"""
local known, size = number('tokens', ARGV[8]), number('size', ARGV[9])
if redis.call('HGET', key, 'born') == ARGV[5] then
  book(now, tonumber(ARGV[6]), tonumber(ARGV[1]), tonumber(ARGV[7]), tonumber(ARGV[3]))
end
if tonumber(ARGV[11]) > 0 then
  known, size = known + tonumber(ARGV[10]), size + tonumber(ARGV[11])
  local share = math.min(1, {MEMORY_BYTES} / size)
  known, size = known * share, size * share
  keep('tokens', known)
  keep('size', size)
  redis.call('EXPIRE', key, {_EXPIRES})
end
return {{tostring(known), tostring(size)}}
"""

_PAUSE = f"""
keep('paused_until', math.max(moment('paused_until'), now + tonumber(ARGV[1])))
redis.call('EXPIRE', key, {_EXPIRES})
"""


@dataclass(frozen=True, slots=True)
class Booking:
    """What a reservation got: ``wait`` in seconds, of which ``paused`` for a pause. ``booked`` is False if it was too long."""

    booked: bool
    wait: float
    paused: float
    born: str
    tokens: float
    ratio: TokenRatio


class SharedState:
    """One account's state. Every method is one round trip, bounded, and raises ``redis.RedisError`` or ``OSError``."""

    def __init__(self, redis_url: str, name: str) -> None:
        # Not again by itself: the limiter goes on without, and a request that was booked unseen is only a gap.
        self._client = redis.Redis.from_url(
            redis_url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, socket_keepalive=True, retry=Retry(NoBackoff(), 0)
        )
        self._keys = [PREFIX + name]
        self._reserve, self._correct, self._pause = (
            self._client.register_script(_COMMON + script) for script in (_RESERVE, _CORRECT, _PAUSE)
        )

    def reserve(
        self, rates: Rates, size: int, ratio: TokenRatio, most_wait: float, born: str = "", tokens: float = 0.0
    ) -> Booking:
        """Book one request of ``size`` bytes. With ``born``, only if the earlier booking no longer holds: a pause, or emptied."""
        found = self._reserve(self._keys, [*_rates(rates), size, ratio.tokens, ratio.size, most_wait, born, tokens])
        return Booking(bool(found[0]), float(found[1]), float(found[2]), found[3].decode(), float(found[4]), _ratio(found[5:]))

    def correct(
        self, rates: Rates, born: str, requests: float, tokens: float, ratio: TokenRatio, used: int = 0, size: int = 0
    ) -> TokenRatio:
        """Book so much more (less, below 0), if the state is still the one ``born`` then; learn ``used`` tokens of ``size``."""
        return _ratio(self._correct(self._keys, [*_rates(rates), born, requests, tokens, ratio.tokens, ratio.size, used, size]))

    def pause(self, seconds: float) -> None:
        self._pause(self._keys, [seconds])

    def close(self) -> None:
        self._client.close()


def _rates(rates: Rates) -> list[float]:
    return [rates.requests.per_second, rates.requests.burst, rates.tokens.per_second, rates.tokens.burst]


def _ratio(found: Sequence[Any]) -> TokenRatio:
    return TokenRatio(float(found[0]), float(found[1]))
