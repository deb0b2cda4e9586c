-- The leader's tick: take or renew the lock, delete keys of a wrong type, put back ids that were popped and never
-- claimed, move ids that are due.
-- KEYS: 1 leader; 2 inflight; 3 scheduled; 4 workers; 5 cancels; 6 epoch; 7 high; 8 medium; 9 low; 10 parked; 11 pauses;
--       12 schedules
-- ARGV: 1 candidate's id; 2 ms that the lock lasts; 3 how many ids to move at most from each set;
--       4 scheduled ids are due up to then, by MongoDB's clock, which set their scores (absent: by Redis's clock)
-- Returns {1 when the candidate leads; now ms; swept; moved; mended; epoch; run_id or empty; {worker, score, ...};
--          parked; the version of the pauses or empty; what `schedules` holds}.
local function kind(key) return redis.call('TYPE', key).ok end

local lock = kind(KEYS[1])
local mine = true
if lock == 'string' then
  local ttl = redis.call('PTTL', KEYS[1])
  -- A lock without an expiry, or with one later than a leader's, does not count: take it.
  mine = redis.call('GET', KEYS[1]) == ARGV[1] or ttl < 0 or ttl > tonumber(ARGV[2])
elseif lock ~= 'none' then
  redis.call('DEL', KEYS[1])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not mine then return {0, now, 0, 0, 0, '', '', {}, 0, '', ''} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
keep_record()

local mended = 0
local wanted = {[2] = 'zset', [3] = 'zset', [4] = 'zset', [5] = 'zset', [6] = 'string',
                [7] = 'list', [8] = 'list', [9] = 'list', [10] = 'zset', [11] = 'string',
                [12] = 'string'}
for i, want in pairs(wanted) do
  local is = kind(KEYS[i])
  if is ~= want and is ~= 'none' then
    redis.call('DEL', KEYS[i])
    mended = mended + 1
  end
end

-- An id that is not plain text is not a worker's, and could not be removed later by `forget`.
for _, worker in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
  if string.find(worker, '[%c\128-\255]') then redis.call('ZREM', KEYS[4], worker) end
end

local lanes = {high = KEYS[7], medium = KEYS[8], low = KEYS[9]}
local function move(set, push, until_ms)
  local due = redis.call('ZRANGEBYSCORE', set, '-inf', until_ms, 'LIMIT', 0, ARGV[3])
  local by_lane = {high = {}, medium = {}, low = {}}
  for _, member in ipairs(due) do
    local lane, id = string.match(member, '^(%a+):(%x+)$')
    -- Drop what does not have this form; the audit lists the job again.
    if lane and by_lane[lane] then table.insert(by_lane[lane], id) end
  end
  for lane, ids in pairs(by_lane) do
    for i = 1, #ids, 1000 do redis.call(push, lanes[lane], unpack(ids, i, math.min(i + 999, #ids))) end
  end
  for i = 1, #due, 1000 do redis.call('ZREM', set, unpack(due, i, math.min(i + 999, #due))) end
  return #due
end
-- Ids that were popped before go to the front.
local swept = move(KEYS[2], 'LPUSH', now)
local moved = move(KEYS[3], 'RPUSH', ARGV[4] or now)
-- Of paused jobs, those whose pause has ended.
moved = moved + move(KEYS[10], 'RPUSH', ARGV[4] or now)
-- The user may lack the right to INFO: then the caller uses its connection instead.
local info = redis.pcall('INFO', 'server')
local run_id = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
return {1, now, swept, moved, mended, redis.call('GET', KEYS[6]) or '', run_id,
        redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES'), redis.call('ZCARD', KEYS[10]),
        redis.call('GET', KEYS[11]) or '', redis.call('GET', KEYS[12]) or ''}
