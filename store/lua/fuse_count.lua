-- Counts sends to device tokens that were accepted before, and decides whether
-- too many of them were rejected.
--
-- KEYS  window, rejections
-- ARGV  now, milliseconds of a slot, slots, rejections that trip at least, per
--       cent that trip, rejections to remember at most, seconds to live, then for
--       each message: sends accepted, sends with another answer, rejections that
--       are not listed, how many are listed, those
-- Reply tripped (1 or 0), rejections and sends that it was decided on, then for
--       each listed rejection: 1 if it is remembered, so that it can be undone

local now = clock(ARGV[1])
local slot, slots, least, percent = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local span = slot * slots

-- A window that has tripped stays as it is, for whoever undoes it.
local stored = redis.call('HMGET', KEYS[1], 'tripped', 'rejected', 'sent', 'run', 'since')
if stored[1] then return {1, tonumber(stored[2]), tonumber(stored[3])} end

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - span)
local room = tonumber(ARGV[6]) - redis.call('ZCARD', KEYS[2])

-- By slot: all sends, rejections among them. "run" is how many rejections came
-- since the last 200, from "since" on.
local current = math.floor(now / slot)
local sends, rejections = {}, {}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local kind, at = string.match(fields[i], '^([ar])(%d+)$')
  if kind then
    at = tonumber(at)
    if at <= current - slots then
      redis.call('HDEL', KEYS[1], fields[i])
    elseif kind == 'a' then
      sends[at] = tonumber(fields[i + 1])
    else
      rejections[at] = tonumber(fields[i + 1])
    end
  end
end
local run, since = tonumber(stored[4] or '0'), tonumber(stored[5] or '0')

-- Each end of the window is looked at, not only all of it: what went well before
-- must not outweigh what goes wrong now.
local function trips()
  if run >= least then return run, run end
  local sent, rejected = 0, 0
  for at = current, current - slots + 1, -1 do
    sent, rejected = sent + (sends[at] or 0), rejected + (rejections[at] or 0)
    if rejected >= least and rejected * 100 >= percent * sent then return rejected, sent end
  end
end

local reply = {0, 0, 0}
local i = 8
while i <= #ARGV do
  local accepted, others, fresh, listed = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  for n = i + 4, i + 3 + listed do
    if redis.call('ZSCORE', KEYS[2], ARGV[n]) then
      reply[#reply + 1] = 1 -- told again
    else
      fresh = fresh + 1
      if room > 0 then
        redis.call('ZADD', KEYS[2], now, ARGV[n])
        room = room - 1
        reply[#reply + 1] = 1
      else
        reply[#reply + 1] = 0
      end
    end
  end
  i = i + 4 + listed
  sends[current] = (sends[current] or 0) + accepted + others + fresh
  rejections[current] = (rejections[current] or 0) + fresh
  if accepted > 0 then
    run, since = 0, 0
  elseif fresh > 0 then
    if run == 0 or now - since > span then run, since = 0, now end
    run = run + fresh
  end
  local rejected, sent = trips()
  if rejected then
    redis.call('HSET', KEYS[1], 'tripped', '1', 'rejected', rejected, 'sent', sent)
    reply = {1, rejected, sent}
    break
  end
end
redis.call('HSET', KEYS[1], 'a' .. current, sends[current] or 0, 'r' .. current, rejections[current] or 0,
  'run', run, 'since', since)
redis.call('EXPIRE', KEYS[1], ARGV[7])
redis.call('EXPIRE', KEYS[2], ARGV[7])
return reply
