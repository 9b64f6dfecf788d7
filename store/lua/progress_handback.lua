-- Remembers when a message that is handed back may be tried again, and which of
-- its recipients differ from the rest of it.
-- KEYS: progress, settled, held. ARGV: seconds to live, retry_at in ms, attempts, then
-- 8-byte hash and "r<attempts>,<retry_at in ms>", repeated.
redis.call('HSET', KEYS[1], 'retry_at', ARGV[2], 'attempts', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[1])
for i = 4, #ARGV, 2 do
  local was = redis.call('HGET', KEYS[2], ARGV[i])
  if not was or string.sub(was, 1, 1) == 'r' then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[3], ARGV[1])
return 1
