-- Remove these ids from their lanes, at any position, and note them as in flight.
-- KEYS: 1 inflight; 2.. lanes
-- ARGV: 1 ms until an id that was not claimed is put back; then for each id:
--       the number of its lane's key; the member (lane:id); the id
-- Returns the members that were listed.
local is = redis.call('TYPE', KEYS[1]).ok
if is ~= 'none' and is ~= 'zset' then redis.call('DEL', KEYS[1]) end
local time = redis.call('TIME')
local expires = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local taken = {}
for i = 2, #ARGV, 3 do
  local lane = KEYS[tonumber(ARGV[i])]
  if redis.call('TYPE', lane).ok == 'list' and redis.call('LREM', lane, 1, ARGV[i + 2]) > 0 then
    redis.call('ZADD', KEYS[1], expires, ARGV[i + 1])
    taken[#taken + 1] = ARGV[i + 1]
  end
end
return taken
