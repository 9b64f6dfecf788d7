-- Adds device tokens to the slots of their users or installs, or refreshes the
-- generation there. Used slots are always the first ones, without a hole.
--
-- KEYS  slots, long device tokens
-- ARGV  for each: key of the user or install, generation, device token
-- Reply for each: 1, or 0 if all slots are taken by others; the others, each
--       with its length - 1 in front

local SHORT = 60
local reply = {}

for i = 1, #ARGV, 3 do
  local key, gen, token = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local list, field, others = used(key), nil, ''
  for _, slot in ipairs(list) do
    if slot.token == token then
      field, gen = slot.field, math.max(gen, slot.gen)
    elseif slot.token ~= '' then
      others = others .. string.char(#slot.token - 1) .. slot.token
    end
  end
  if not field and #list < SLOTS then field = key .. string.char(#list) end
  if field and #token > SHORT then
    redis.call('HSET', KEYS[1], field, put32(gen))
    redis.call('HSET', KEYS[2], field, token)
  elseif field then
    redis.call('HSET', KEYS[1], field, put32(gen) .. token)
  end
  reply[#reply + 1] = field and 1 or 0
  reply[#reply + 1] = others
end
return reply
