-- Removes device tokens of one bucket in favour of others, unless they were
-- registered later than those.
--
-- KEYS  records
-- ARGV  now, reason, then for each: old device token, when the new one was
--       registered, 1 if the new one wins a tie, how (1: it was named as the
--       previous one; 2: it is of the same install), kind and install of the new
-- Reply for each: what was done, when the old one was registered

local NOTHING, DONE, LATER = 0, 1, 2
local PREVIOUS = 1

local now, reason = clock(ARGV[1]), tonumber(ARGV[2])
local reply = {}

for i = 3, #ARGV, 6 do
  local token, at, how = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 3])
  local raw = redis.call('HGET', KEYS[1], token)
  local old = raw and decode(raw)
  local did = NOTHING
  if not raw then
    if how == PREVIOUS then
      redis.call('HSET', KEYS[1], token, tombstone(now, reason))
      did = DONE
    end
  elseif not old then
    did = UNREADABLE
  elseif old.state ~= REMOVED and (how == PREVIOUS or
    (old.head % 32 == tonumber(ARGV[i + 4]) and install(old) == ARGV[i + 5])) then
    if old.at > at or (old.at == at and ARGV[i + 2] ~= '1') then
      did = LATER
    else
      remove(old, now, reason)
      redis.call('HSET', KEYS[1], token, encode(old))
      did = DONE
    end
  end
  reply[#reply + 1] = did
  reply[#reply + 1] = old and old.at or 0
end
return reply
