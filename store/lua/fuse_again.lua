-- Remembers rejections that are told again after a fail-over, so that they can
-- still be undone. It counts nothing: sends were counted when they were first told,
-- and a rejection without the sends around it would weigh too much.
--
-- KEYS  window, rejections
-- ARGV  now, milliseconds of the window, rejections to remember at most, seconds to
--       live, then rejections
-- Reply tripped (1 or 0), rejections and sends that it was decided on, then for
--       each rejection: 1 if it is remembered

local now = clock(ARGV[1])
local stored = redis.call('HMGET', KEYS[1], 'tripped', 'rejected', 'sent')
if stored[1] then return {1, tonumber(stored[2]), tonumber(stored[3])} end

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[2]))
local room = tonumber(ARGV[3]) - redis.call('ZCARD', KEYS[2])
local reply = {0, 0, 0}
for i = 5, #ARGV do
  if redis.call('ZSCORE', KEYS[2], ARGV[i]) then
    reply[#reply + 1] = 1
  elseif room > 0 then
    redis.call('ZADD', KEYS[2], now, ARGV[i])
    room = room - 1
    reply[#reply + 1] = 1
  else
    reply[#reply + 1] = 0
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[4])
return reply
