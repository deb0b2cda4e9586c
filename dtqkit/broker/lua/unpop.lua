-- Put popped ids back to the front of their lanes. They stay in flight if a lane cannot take them.
-- KEYS: 1 inflight; 2.. lanes
-- ARGV: for each lane how many ids follow, and the ids, the last first; then the members to remove from inflight
local at = 1
for lane = 2, #KEYS do
  local count = tonumber(ARGV[at])
  for i = at + 1, at + count, 1000 do
    redis.call('LPUSH', KEYS[lane], unpack(ARGV, i, math.min(i + 999, at + count)))
  end
  at = at + count + 1
end
for i = at, #ARGV, 1000 do redis.call('ZREM', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
