-- Remove members of a set whose score is still the one that was seen.
-- KEYS: 1 the set
-- ARGV: member, score, member, score ...
-- Returns how many were removed.
local dropped = 0
for i = 1, #ARGV, 2 do
  -- As numbers: versions of Redis format the same score differently.
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i])) == tonumber(ARGV[i + 1]) then
    dropped = dropped + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return dropped
