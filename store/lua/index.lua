-- Adds device tokens to the slots of their users or installs, or refreshes the
-- generation there. Used slots are always the first ones, without a hole.
--
-- KEYS  slots, long device tokens
-- ARGV  for each: key of the user or install, generation, device token
-- Reply for each: 1, or 0 if all slots are taken by others; the others, each
--       with its length - 1 in front

local BLOCK, SLOTS, SHORT = 4, 256, 60
local reply = {}

for i = 1, #ARGV, 3 do
  local key, gen, token = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local others, slot, free = '', nil, nil
  for first = 0, SLOTS - 1, BLOCK do
    local fields = {}
    for n = 1, BLOCK do fields[n] = key .. string.char(first + n - 1) end
    local values = redis.call('HMGET', KEYS[1], unpack(fields))
    for n = 1, BLOCK do
      local value = values[n]
      if not value then
        free = first + n - 1
        break
      end
      local held = string.sub(value, 5)
      if held == '' then held = redis.call('HGET', KEYS[2], fields[n]) or '' end
      if held == token then
        slot = first + n - 1
        gen = math.max(gen, get32(value, 1))
      elseif held ~= '' then
        others = others .. string.char(#held - 1) .. held
      end
    end
    if free then break end
  end
  slot = slot or free
  if slot then
    local field = key .. string.char(slot)
    if #token > SHORT then
      redis.call('HSET', KEYS[1], field, put32(gen))
      redis.call('HSET', KEYS[2], field, token)
    else
      redis.call('HSET', KEYS[1], field, put32(gen) .. token)
    end
  end
  reply[#reply + 1] = slot and 1 or 0
  reply[#reply + 1] = others
end
return reply
