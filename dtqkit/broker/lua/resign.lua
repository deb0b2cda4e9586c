-- Release the lock if this process holds it, so that the next leader need not wait for its expiry.
-- KEYS: 1 leader
-- ARGV: 1 its id
if redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
