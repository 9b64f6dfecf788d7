-- Marks a bucket of a tag as split by a modulus, so that nobody puts into it any
-- more what belongs into the other half.
--
-- KEYS  device tokens
-- ARGV  modulus

if tonumber(redis.call('HGET', KEYS[1], '') or '0') < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], '', ARGV[1])
end
return 0
