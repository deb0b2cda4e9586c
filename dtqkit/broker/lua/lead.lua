-- The leader's tick: take or keep the lock, give up on what was popped and never claimed, move what is due.
-- KEYS: 1 leader; 2 inflight; 3 scheduled; 4 workers; 5 epoch; 6 high; 7 medium; 8 low
-- ARGV: 1 candidate's id; 2 ms that the lock lasts; 3 how many ids to move at most from each set
-- Returns {1 when the candidate leads; now ms; swept; moved; epoch or ''; {worker, score, ...}}.
local kind = redis.call('TYPE', KEYS[1]).ok
local mine = false
if kind == 'string' then
  local ttl = redis.call('PTTL', KEYS[1])
  -- A lock that would never end, or only long after ours would, is nobody's: it is taken.
  mine = redis.call('GET', KEYS[1]) == ARGV[1] or ttl < 0 or ttl > tonumber(ARGV[2])
else
  mine = true
  if kind ~= 'none' then redis.call('DEL', KEYS[1]) end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not mine then return {0, now, 0, 0, '', {}} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])

local lanes = {high = KEYS[6], medium = KEYS[7], low = KEYS[8]}
local function move(set)
  local due = redis.call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', 0, ARGV[3])
  local by_lane = {high = {}, medium = {}, low = {}}
  for _, member in ipairs(due) do
    local lane, id = string.match(member, '^(%a+):(%x+)$')
    -- What is not of this form is dropped; the record lists the job again.
    if lane and by_lane[lane] then table.insert(by_lane[lane], id) end
  end
  for lane, ids in pairs(by_lane) do
    for i = 1, #ids, 1000 do redis.call('RPUSH', lanes[lane], unpack(ids, i, math.min(i + 999, #ids))) end
  end
  for i = 1, #due, 1000 do redis.call('ZREM', set, unpack(due, i, math.min(i + 999, #due))) end
  return #due
end
local swept = move(KEYS[2])
local moved = move(KEYS[3])
return {1, now, swept, moved, redis.call('GET', KEYS[5]) or '', redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES')}
