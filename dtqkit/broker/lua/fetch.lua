-- Take up to n ids from the lanes, in the order given, and note them as in flight.
-- KEYS: 1 inflight; 2.. lanes
-- ARGV: 1 n; 2 ms until a popped id that was not claimed is put back; then the lanes' names;
--       then members that have been claimed
-- Returns the members (lane:id) that were taken.
-- Before anything is popped: a key of a wrong type would stop the script after the pop, and lose the popped ids.
for i, key in ipairs(KEYS) do
  local is = redis.call('TYPE', key).ok
  if is ~= 'none' and is ~= (i == 1 and 'zset' or 'list') then redis.call('DEL', key) end
end
local lanes = #KEYS - 1
for i = 3 + lanes, #ARGV, 1000 do
  redis.call('ZREM', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
local left = tonumber(ARGV[1])
local taken = {}
for i = 1, lanes do
  if left > 0 then
    local ids = redis.call('LPOP', KEYS[i + 1], left)
    if ids then
      for _, id in ipairs(ids) do taken[#taken + 1] = ARGV[i + 2] .. ':' .. id end
      left = left - #ids
    end
  end
end
if #taken > 0 then
  local time = redis.call('TIME')
  local expires = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
  local entries = {}
  for _, member in ipairs(taken) do
    entries[#entries + 1] = expires
    entries[#entries + 1] = member
  end
  for i = 1, #entries, 2000 do
    redis.call('ZADD', KEYS[1], unpack(entries, i, math.min(i + 1999, #entries)))
  end
end
return taken
