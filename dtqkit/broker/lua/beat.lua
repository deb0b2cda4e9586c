-- A worker's heartbeat. Returns what the worker needs to know, in the same round trip.
-- KEYS: 1 workers; 2 worker:<id>; 3 leader; 4 cancels; 5 pauses; 6.. lanes
-- ARGV: 1 worker id; 2 ms until the hash expires; 3 channel; 4 message; 5 maximum ms of a leader's lock;
--       6 the version of the pauses that the worker knows, 7 the one here that it has found to be wrong, or empty;
--       then field, value, field, value ...
-- Returns {now ms, 1 when there is a leader, depths of the lanes, ids to stop, {worker, score, ...},
--          the version of the pauses}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Redis may hold anything: delete a key of a wrong type, or no heartbeat would ever succeed again.
local function want(key, kind)
  local is = redis.call('TYPE', key).ok
  if is ~= kind and is ~= 'none' then redis.call('DEL', key) end
end
keep_record()
want(KEYS[1], 'zset')
want(KEYS[2], 'hash')
want(KEYS[4], 'zset')
want(KEYS[5], 'string')
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], unpack(ARGV, 8))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
local depths = {}
for i = 6, #KEYS do
  want(KEYS[i], 'list')
  depths[#depths + 1] = redis.call('LLEN', KEYS[i])
end
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
-- A cancel is listed for two minutes at most: drop later scores, which would never expire.
redis.call('ZREMRANGEBYSCORE', KEYS[4], '(' .. (now + 120000), '+inf')
-- A lock without an expiry, or with one later than a leader's, does not count.
local ttl = redis.call('PTTL', KEYS[3])
local led = redis.call('TYPE', KEYS[3]).ok == 'string' and ttl >= 0 and ttl <= tonumber(ARGV[5])
local pauses = redis.call('GET', KEYS[5])
if ARGV[6] ~= '' and (not pauses or pauses == ARGV[7]) then pauses = ARGV[6] end
if pauses and pauses == ARGV[6] then redis.call('SET', KEYS[5], pauses, 'PX', 3600000) end
return {
  now,
  led and 1 or 0,
  depths,
  redis.call('ZRANGE', KEYS[4], 0, 999),
  redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'),
  pauses or '',
}
