-- Marks recipients that are settled at a worker and not yet in OUTCOMES.
-- KEYS: settled. ARGV: seconds to live, then 8-byte hash and "m…" with
-- what became of it, repeated.
for i = 2, #ARGV, 2 do
  local was = redis.call('HGET', KEYS[1], ARGV[i])
  if not was or string.sub(was, 1, 1) == 'r' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
