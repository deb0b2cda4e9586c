-- End a blocking pop.
-- KEYS: 1 the worker's wake list, which its blocking pop also reads
-- ARGV: 1 ms that the entry is kept for a pop that has not begun yet
if redis.call('TYPE', KEYS[1]).ok ~= 'list' then
  redis.call('DEL', KEYS[1])
  redis.call('RPUSH', KEYS[1], '')
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
