-- Put back what was popped: to the front of its lane. It stays in flight if its lane cannot take it.
-- KEYS: 1 inflight; 2.. lanes
-- ARGV: for each lane how many ids follow, and the ids, the last first; then the members, in flight no more
local at = 1
for lane = 2, #KEYS do
  local count = tonumber(ARGV[at])
  for i = at + 1, at + count, 1000 do
    redis.call('LPUSH', KEYS[lane], unpack(ARGV, i, math.min(i + 999, at + count)))
  end
  at = at + count + 1
end
for i = at, #ARGV, 1000 do redis.call('ZREM', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
