-- Marks a bucket: from now on nothing is written there by an older layout. It is
-- for buckets that are left, and for new ones that have got everything.
--
-- KEYS  records, details, replacements
-- ARGV  for each: device token that is to leave
-- Reply for each: record, details, replacements, '' where there is none

if mark < level then redis.call('HSET', KEYS[1], '', level) end
local reply = {}
for _, token in ipairs(ARGV) do
  for k = 1, 3 do
    reply[#reply + 1] = redis.call('HGET', KEYS[k], token) or ''
  end
end
return reply
