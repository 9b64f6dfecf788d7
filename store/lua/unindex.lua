-- Takes device tokens out of the slots of users or installs, unless they were
-- put there by a later generation. The last slot in use moves to the hole.
--
-- KEYS  slots, long device tokens
-- ARGV  for each: key of the user or install, generation, device token

for i = 1, #ARGV, 3 do
  local gen, token = tonumber(ARGV[i + 1]), ARGV[i + 2]
  local list, hole = used(ARGV[i]), nil
  for _, slot in ipairs(list) do
    if slot.token == token and slot.gen <= gen then hole = slot.field end
  end
  if hole then
    local last = list[#list].field
    redis.call('HDEL', KEYS[2], hole)
    if last ~= hole then
      redis.call('HSET', KEYS[1], hole, redis.call('HGET', KEYS[1], last))
      local long = redis.call('HGET', KEYS[2], last)
      if long then
        redis.call('HSET', KEYS[2], hole, long)
        redis.call('HDEL', KEYS[2], last)
      end
    end
    redis.call('HDEL', KEYS[1], last)
  end
end
return 0
