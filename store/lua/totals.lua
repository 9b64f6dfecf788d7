-- The totals of a campaign's ranges: what the progress of each says, added up. This
-- file is put before the scripts that use it: see scripts.go. KEYS[1] is the progress
-- and KEYS[4] the totals; of a job there are none.

local function count(field, n)
  redis.call('HINCRBY', KEYS[1], field, n)
  if KEYS[4] then redis.call('HINCRBY', KEYS[4], field, n) end
end

-- complete returns what a range adds only once it is done: itself, the recipients
-- that are counted, and the devices that were looked at.
--
-- choice: recipients are counted, not taken from what an outcome calls the total:
-- between two deliveries devices come and go, and all counts must add up.
local function complete()
  local fields = redis.call('HGETALL', KEYS[1])
  local done, recipients, devices = 0, 0, 0
  for i = 1, #fields, 2 do
    if string.find(fields[i], '^n:') then
      recipients = recipients + tonumber(fields[i + 1])
    elseif fields[i] == 'devices' then
      devices = tonumber(fields[i + 1])
    elseif fields[i] == 'done' then
      done = 1
    end
  end
  if done == 0 then return {0, 0, 0} end
  return {1, recipients, devices}
end

-- total adds what has changed in that since before.
local function total(before, live)
  local now = complete()
  for i, field in ipairs({'ranges', 'matched', 'devices'}) do
    if now[i] ~= before[i] then redis.call('HINCRBY', KEYS[4], field, now[i] - before[i]) end
  end
  redis.call('EXPIRE', KEYS[4], live)
end
