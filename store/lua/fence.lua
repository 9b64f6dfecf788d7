-- Refuses a caller that goes by an older layout than the bucket's: see layout.go.
-- This file is put before the scripts that write to buckets: see scripts.go.
--
-- KEYS  what has the mark, ...
-- ARGV  ..., level of the caller's layout; the script does not see it

local level = tonumber(table.remove(ARGV))
local mark = tonumber(redis.call('HGET', KEYS[1], '') or -1)
if mark > level then
  return redis.error_reply('LAYOUT the bucket was left, or split')
end
