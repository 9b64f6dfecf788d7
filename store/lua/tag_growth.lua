-- Reads how far the buckets of tags have grown, or takes them further.
--
-- KEYS  growth by tag
-- ARGV  for each: key of the tag, what it must be for the new growth to be taken
--       (-1: anything lower), the new growth
-- Reply the growth of each after that

local ONE_BUCKET = 2
local reply = {}

for i = 1, #ARGV, 3 do
  local growth = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or ONE_BUCKET)
  local from, to = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if growth < to and (from == -1 or from == growth) then
    growth = to
    redis.call('HSET', KEYS[1], ARGV[i], growth)
  end
  reply[#reply + 1] = growth
end
return reply
