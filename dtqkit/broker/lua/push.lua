-- Append ids to their lanes, schedule those that are due later, and publish.
-- KEYS: 1 scheduled; 2.. lanes
-- ARGV: 1 channel; 2 message, empty for none; 3 how many pairs of score and member follow; the pairs;
--       then for each lane how many ids follow, and the ids
keep_record()
-- Before anything is listed: after an error in between, the next try would list ids twice.
for i, key in ipairs(KEYS) do
  local is = redis.call('TYPE', key).ok
  if is ~= 'none' and is ~= (i == 1 and 'zset' or 'list') then redis.call('DEL', key) end
end
local at = 4
local function call(command, key, count, step)
  for i = at, at + count - 1, step do
    redis.call(command, key, unpack(ARGV, i, math.min(i + step - 1, at + count - 1)))
  end
  at = at + count
end
call('ZADD', KEYS[1], 2 * ARGV[3], 1000)
for lane = 2, #KEYS do
  local count = tonumber(ARGV[at])
  at = at + 1
  call('RPUSH', KEYS[lane], count, 1000)
end
if ARGV[2] ~= '' then redis.pcall('PUBLISH', ARGV[1], ARGV[2]) end
