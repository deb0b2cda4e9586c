-- Note ids as in flight until some time from now, by Redis's clock: then the sweep puts them at the front of their
-- lanes.
-- KEYS: 1 inflight
-- ARGV: member, ms from now, member, ms from now ...
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #ARGV, 2 do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[i + 1]), ARGV[i]) end
