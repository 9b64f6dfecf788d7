-- Takes back that recipients of a job were rejected: they are to be sent to
-- again. What another outcome said of them stands.
-- KEYS: progress, settled, held. ARGV: seconds to live, then 8-byte hash and
-- sequence of the outcome that told the rejection, repeated.
-- Returns how many are open now because of this call.
local opened = 0
for i = 2, #ARGV, 2 do
  local was = redis.call('HGET', KEYS[2], ARGV[i])
  if was == ARGV[i + 1] then
    redis.call('HINCRBY', KEYS[1], 'n:rejected', -1)
    redis.call('HDEL', KEYS[2], ARGV[i])
    was = false
  end
  if not was or string.find(was, '^[mr]') then
    opened = opened + redis.call('SADD', KEYS[3], ARGV[i])
  end
end
if redis.call('SCARD', KEYS[3]) > 0 then
  redis.call('HSET', KEYS[1], 'held', '1')
  if redis.call('HGET', KEYS[1], 'done') == '1' then
    redis.call('HSET', KEYS[1], 'told', '1')
    redis.call('HDEL', KEYS[1], 'done')
  end
  for k = 1, 3 do redis.call('EXPIRE', KEYS[k], ARGV[1]) end
end
return opened
