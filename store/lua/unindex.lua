-- Takes device tokens out of the slots of users or installs, unless they were
-- put there by a later generation. The last slot in use moves to the hole.
--
-- KEYS  slots, long device tokens
-- ARGV  for each: key of the user or install, generation, device token

local BLOCK, SLOTS = 4, 256

for i = 1, #ARGV, 3 do
  local key, gen, token = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local slot, last, done = nil, nil, false
  for first = 0, SLOTS - 1, BLOCK do
    local fields = {}
    for n = 1, BLOCK do fields[n] = key .. string.char(first + n - 1) end
    local values = redis.call('HMGET', KEYS[1], unpack(fields))
    for n = 1, BLOCK do
      local value = values[n]
      if not value then
        done = true
        break
      end
      last = fields[n]
      local held = string.sub(value, 5)
      if held == '' then held = redis.call('HGET', KEYS[2], last) or '' end
      if held == token and get32(value, 1) <= gen then slot = last end
    end
    if done then break end
  end
  if slot then
    redis.call('HDEL', KEYS[2], slot)
    if last ~= slot then
      redis.call('HSET', KEYS[1], slot, redis.call('HGET', KEYS[1], last))
      local long = redis.call('HGET', KEYS[2], last)
      if long then
        redis.call('HSET', KEYS[2], slot, long)
        redis.call('HDEL', KEYS[2], last)
      end
    end
    redis.call('HDEL', KEYS[1], last)
  end
end
return 0
