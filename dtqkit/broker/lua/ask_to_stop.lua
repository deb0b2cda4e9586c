-- List jobs whose running attempt is to be stopped, for some time by Redis's clock.
-- KEYS: 1 cancels
-- ARGV: 1 ms that they are listed; 2.. ids
local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], until_ms, ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], 2 * tonumber(ARGV[1]))
