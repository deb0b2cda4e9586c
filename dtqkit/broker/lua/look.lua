-- Check whether jobs can run: a write, which needs memory and a primary; the leader, the lanes and the workers.
-- KEYS: 1 probe; 2 leader; 3 workers; 4.. lanes
-- ARGV: 1 maximum ms of a leader's lock
-- Returns {now ms, 1 when there is a leader, depths of the lanes, {worker, score, ...}}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], now, 'PX', 1000)
local function is(key, kind) return redis.call('TYPE', key).ok == kind end
local depths = {}
for i = 4, #KEYS do
  depths[#depths + 1] = is(KEYS[i], 'list') and redis.call('LLEN', KEYS[i]) or 0
end
local ttl = redis.call('PTTL', KEYS[2])
local led = is(KEYS[2], 'string') and ttl >= 0 and ttl <= tonumber(ARGV[1])
local workers = is(KEYS[3], 'zset') and redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES') or {}
return {now, led and 1 or 0, depths, workers}
