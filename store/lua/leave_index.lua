-- Marks a bucket of an index, as leave.lua does.
--
-- KEYS  slots, long device tokens
-- ARGV  for each: key of the user or install that is to leave
-- Reply for each: its slots, as a list of generations and device tokens

if mark < level then redis.call('HSET', KEYS[1], '', level) end
local reply = {}
for i, key in ipairs(ARGV) do
  local list = {}
  for _, slot in ipairs(used(key)) do
    list[#list + 1] = slot.gen
    list[#list + 1] = slot.token
  end
  reply[i] = list
end
return reply
