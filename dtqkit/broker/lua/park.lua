-- Note popped ids of paused jobs as parked instead of in flight; unless the pauses have changed since they were read:
-- who ends a pause changes the version first, and then lists what is parked.
-- KEYS: 1 pauses; 2 parked; 3 inflight
-- ARGV: 1 the version of the pauses that the caller knows; then score, member, score, member ...
-- Returns 1 when they are parked.
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local is = redis.call('TYPE', KEYS[2]).ok
if is ~= 'none' and is ~= 'zset' then redis.call('DEL', KEYS[2]) end
for i = 2, #ARGV, 2 do
  redis.call('ZADD', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('ZREM', KEYS[3], ARGV[i + 1])
end
return 1
