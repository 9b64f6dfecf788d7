-- Drops device tokens that have been put into the new bucket from the old one.
--
-- KEYS  records, details, replacements
-- ARGV  device tokens
-- Reply how many were there

local dropped = 0
if mark == level then
  for k = 1, 3 do
    local n = 0
    for _, token in ipairs(ARGV) do n = n + redis.call('HDEL', KEYS[k], token) end
    if k == 1 then dropped = n end
  end
end
return dropped
