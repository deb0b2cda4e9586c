-- List parked jobs again, at the end of their lanes.
-- KEYS: 1 parked; 2.. lanes
-- ARGV: for each id: the number of its lane's key; the member (lane:id); the id
-- Returns how many were parked.
for i, key in ipairs(KEYS) do
  local is = redis.call('TYPE', key).ok
  if is ~= 'none' and is ~= (i == 1 and 'zset' or 'list') then redis.call('DEL', key) end
end
local listed = 0
for i = 1, #ARGV, 3 do
  if redis.call('ZREM', KEYS[1], ARGV[i + 1]) == 1 then
    redis.call('RPUSH', KEYS[tonumber(ARGV[i])], ARGV[i + 2])
    listed = listed + 1
  end
end
return listed
