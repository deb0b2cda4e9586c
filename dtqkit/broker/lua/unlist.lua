-- Remove ids from one part of a lane: all that are there, wherever they stand in it.
-- KEYS: 1 lane
-- ARGV: 1 where the part begins, 2 where it ends, from 0; then the ids
-- Returns how many were removed.
if redis.call('TYPE', KEYS[1]).ok ~= 'list' then return 0 end
local gone = {}
for i = 3, #ARGV do gone[ARGV[i]] = true end
local marked = 0
for i, id in ipairs(redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])) do
  if gone[id] then
    redis.call('LSET', KEYS[1], ARGV[1] + i - 1, '')
    marked = marked + 1
  end
end
if marked > 0 then redis.call('LREM', KEYS[1], marked, '') end
return marked
