-- Takes back that recipients of a job were rejected: they are to be sent to
-- again. What another outcome said of them stands: one that told all of them at once
-- had no such rejection (progress_whole.lua).
-- KEYS: progress, settled, held, of a range totals. ARGV: seconds to live, seconds
-- that totals live, then 8-byte hash and sequence of the outcome that told the
-- rejection, repeated.
-- Returns how many are open now because of this call.
if redis.call('HEXISTS', KEYS[1], 'by') == 1 then return 0 end
local before = KEYS[4] and complete()
local opened = 0
for i = 3, #ARGV, 2 do
  local was = redis.call('HGET', KEYS[2], ARGV[i])
  local by, label = string.match(was or '', '^(%d+) ?(.*)')
  if by == ARGV[i + 1] then
    if label == '' then label = 'rejected' end
    count('n:' .. label, -1)
    redis.call('HDEL', KEYS[2], ARGV[i])
    by = nil
  end
  if not by then
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
if before then total(before, ARGV[2]) end
return opened
