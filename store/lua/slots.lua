-- The slots of users and installs, as store/index.go describes them. This file is
-- put before the scripts that use it: see scripts.go.
--
-- KEYS  slots, long device tokens

local SLOTS = 256

-- The used slots of a user or install: field, generation and device token of
-- each. Most have few, so few are read first; each read is one command, however
-- many there are.
local function used(key)
  local list, first = {}, 0
  for _, after in ipairs({4, 32, SLOTS}) do
    local fields = {}
    for n = first, after - 1 do fields[#fields + 1] = key .. string.char(n) end
    local values = redis.call('HMGET', KEYS[1], unpack(fields))
    for n, field in ipairs(fields) do
      local value = values[n]
      if not value then return list end
      local token = string.sub(value, 5)
      if token == '' then token = redis.call('HGET', KEYS[2], field) or '' end
      list[#list + 1] = {field = field, gen = get32(value, 1), token = token}
    end
    first = after
  end
  return list
end
