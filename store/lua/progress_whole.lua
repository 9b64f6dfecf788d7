-- Stores a job whose recipients are all settled by one outcome: the common case,
-- which keeps no hashes. Marks of what was settled on the way have done their service:
-- the outcome tells the same.
-- KEYS: progress, settled, held, of a range totals. ARGV: seconds to live, seconds
-- that totals live, sequence of the outcome, total, devices, then label and count,
-- repeated.
-- Returns 1 stored, 2 this very outcome was stored before, 0 there is more to it.
local function only_marks()
  for _, value in ipairs(redis.call('HVALS', KEYS[2])) do
    if string.sub(value, 1, 1) ~= 'm' then return false end
  end
  return true
end
if redis.call('EXISTS', KEYS[1]) == 0 and redis.call('EXISTS', KEYS[3]) == 0 and only_marks() then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'by', ARGV[3], 'done', '1', 'total', ARGV[4])
  for i = 6, #ARGV, 2 do
    redis.call('HSET', KEYS[1], 'n:' .. ARGV[i], ARGV[i + 1])
  end
  if KEYS[4] then
    local matched = 0
    for i = 6, #ARGV, 2 do
      matched = matched + tonumber(ARGV[i + 1])
      redis.call('HINCRBY', KEYS[4], 'n:' .. ARGV[i], ARGV[i + 1])
    end
    redis.call('HSET', KEYS[1], 'devices', ARGV[5])
    redis.call('HINCRBY', KEYS[4], 'ranges', 1)
    redis.call('HINCRBY', KEYS[4], 'matched', matched)
    redis.call('HINCRBY', KEYS[4], 'devices', ARGV[5])
    redis.call('EXPIRE', KEYS[4], ARGV[2])
  end
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  return 1
end
if redis.call('HGET', KEYS[1], 'by') == ARGV[3] then
  return 2
end
return 0
