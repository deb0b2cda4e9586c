-- Remove a dead worker, if its score is still the one that was seen: it has sent no heartbeat since.
-- KEYS: 1 workers; 2 worker:<id>
-- ARGV: 1 worker id; 2 score as seen
-- Returns 1 when it was removed.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[2])
return redis.call('ZREM', KEYS[1], ARGV[1])
