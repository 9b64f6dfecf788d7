-- Stores a job whose recipients are all settled by one outcome: the common case,
-- which keeps no hashes.
-- KEYS: progress, settled, held. ARGV: seconds to live, sequence of the outcome,
-- total, then result and count, repeated.
-- Returns 1 stored, 2 this very outcome was stored before, 0 there is more to it.
if redis.call('EXISTS', KEYS[1]) == 0 and redis.call('EXISTS', KEYS[2]) == 0 and redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('HSET', KEYS[1], 'by', ARGV[2], 'done', '1', 'total', ARGV[3])
  for i = 4, #ARGV, 2 do
    redis.call('HSET', KEYS[1], 'n:' .. ARGV[i], ARGV[i + 1])
  end
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  return 1
end
if redis.call('HGET', KEYS[1], 'by') == ARGV[2] then
  return 2
end
return 0
