-- Puts device tokens into the new bucket, unless they are there, or were: what is
-- in a bucket that has got everything is newer than what comes late.
--
-- KEYS  records, details, replacements
-- ARGV  for each: device token, record, details, replacements; '' where there is none
-- Reply how many were put

local taken = 0
if mark < level then
  for i = 1, #ARGV, 4 do
    local token = ARGV[i]
    if redis.call('HSETNX', KEYS[1], token, ARGV[i + 1]) == 1 then
      for k = 2, 3 do
        if ARGV[i + k] ~= '' then redis.call('HSET', KEYS[k], token, ARGV[i + k]) end
      end
      taken = taken + 1
    end
  end
end
return taken
