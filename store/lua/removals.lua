-- Takes part of what may be removed in this hour, or gives it back.
--
-- KEYS  removals
-- ARGV  now, how many are asked for (below 0: given back), most in an hour
-- Reply how many are granted, the hour

local asked, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local hour = math.floor(clock(ARGV[1]) / 3600000)
local used = 0
if tonumber(redis.call('HGET', KEYS[1], 'hour') or '') == hour then
  used = tonumber(redis.call('HGET', KEYS[1], 'removed'))
end
local granted = math.max(math.min(asked, most - used), math.min(asked, 0))
redis.call('HSET', KEYS[1], 'hour', hour, 'removed', math.max(used + granted, 0))
redis.call('EXPIRE', KEYS[1], 7200)
return {granted, hour}
