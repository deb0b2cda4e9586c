-- Mark the lanes as complete, unless Redis was emptied, or another leader began, since this leader began.
-- KEYS: 1 epoch; 2 epoch:building
-- ARGV: 1 nonce; 2 Redis's run_id
-- Returns 1 when the epoch was set.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[1], ARGV[2])
return 1
