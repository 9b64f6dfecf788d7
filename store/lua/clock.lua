-- The time. This file is put before the scripts that use it: see scripts.go.

-- Milliseconds since the epoch: what the caller gave, or this server's clock.
local function clock(given)
  local ms = tonumber(given)
  if ms > 0 then return ms end
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
