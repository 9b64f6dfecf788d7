-- Forgets device tokens of one bucket whose record is still as given.
--
-- KEYS  records, details, replacements
-- ARGV  for each: device token, record
-- Reply how many were forgotten

local erased = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    for k = 1, 3 do redis.call('HDEL', KEYS[k], ARGV[i]) end
    erased = erased + 1
  end
end
return erased
