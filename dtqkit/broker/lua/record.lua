-- The beginning of every script: refuse to change anything if Redis lists the jobs of another record.
-- KEYS: 1 queue:record; then the script's own
-- ARGV: 1 our record's id, empty while it is not known; then the script's own
local record_key, record = table.remove(KEYS, 1), table.remove(ARGV, 1)
-- Redis may hold anything: a key of another type counts as absent.
local listed = redis.pcall('GET', record_key)
if type(listed) ~= 'string' then listed = false end
if record ~= '' and listed and listed ~= record then return redis.error_reply('FOREIGN ' .. listed .. ' ' .. record_key) end
local function keep_record()
  if record ~= '' and not listed then redis.call('SET', record_key, record) end
end
