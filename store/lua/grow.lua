-- Moves the doubling of an app's buckets on, if the caller's layout holds still.
--
-- KEYS  layout
-- ARGV  bucket count, how many of these are split ('': let it begin), version of
--       layouts that double
-- Reply 1 if this call began or ended it, else 0

local v = redis.call('HMGET', KEYS[1], 'buckets', 'split')
local count, split, done = v[1], v[2], ARGV[2]
if count ~= ARGV[1] then return 0 end
if done == '' then
  if split then return 0 end
  redis.call('HSET', KEYS[1], 'split', 0, 'layout', ARGV[3])
  return 1
end
if not split then return 0 end
if tonumber(done) >= tonumber(count) then
  redis.call('HSET', KEYS[1], 'buckets', 2 * tonumber(count))
  redis.call('HDEL', KEYS[1], 'split')
  return 1
end
if tonumber(done) > tonumber(split) then redis.call('HSET', KEYS[1], 'split', done) end
return 0
