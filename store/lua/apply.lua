-- Applies to device tokens of one bucket what was said about them.
--
-- KEYS  records
-- ARGV  now, then for each: device token, what was said (1 accepted, 2 dead,
--       3 to quarantine, 4 deleted), generation read at the send (0: not in the
--       set then), time from which on it was dead, time of the send, reason
-- Reply for each: what was done, as in store/apply.go

local UNCHANGED, MARKED, RELEASED, REMOVED_IT, REMEMBERED = 1, 2, 3, 4, 5
local QUARANTINED_IT, REJECTED_AGAIN, KEPT_NEWER, NOT_IN_SET = 6, 7, 8, 9
local ACCEPTED, DEAD, QUARANTINE = 1, 2, 3
local DAY = 86400000

local now = clock(ARGV[1])
local reply = {}

local function accepted(r, gen, sent)
  local did = UNCHANGED
  if r.accepted == 0 then
    r.accepted, did = 1, MARKED
  end
  -- A higher generation keeps the rejection from being applied a second time.
  if r.state == QUARANTINED and r.gen == gen and sent > r.changed then
    r.state, r.gen, did = LIVE, succ(r.gen), RELEASED
  end
  return did
end

local function dead(r, gen, from, reason)
  if r.state == REMOVED then return UNCHANGED end
  if (gen ~= 0 and gen ~= r.gen) or r.at >= math.min(from, now) then return KEPT_NEWER end
  remove(r, now, reason)
  return REMOVED_IT
end

local function quarantine(r, gen, sent, reason)
  if r.state == REMOVED then return UNCHANGED end
  if gen ~= r.gen then return KEPT_NEWER end
  if r.state == QUARANTINED then
    if sent < r.changed + r.count * DAY or r.count >= 255 then return UNCHANGED end
    r.count = r.count + 1
    return REJECTED_AGAIN
  end
  if sent == 0 or sent > now then sent = now end
  r.state, r.changed, r.reason, r.count = QUARANTINED, sent, reason, 1
  return QUARANTINED_IT
end

local function unknown(token, said, from, reason)
  if said ~= DEAD or from <= 0 then return NOT_IN_SET end
  redis.call('HSET', KEYS[1], token, tombstone(now, reason))
  return REMEMBERED
end

for i = 2, #ARGV, 6 do
  local token, said, gen = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local from, sent, reason = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5])
  local raw = redis.call('HGET', KEYS[1], token)
  local r = raw and decode(raw)
  local did
  if not raw then
    did = unknown(token, said, from, reason)
  elseif not r then
    did = UNREADABLE
  elseif said == ACCEPTED then
    did = accepted(r, gen, sent)
  elseif said == DEAD then
    did = dead(r, gen, from, reason)
  elseif said == QUARANTINE then
    did = quarantine(r, gen, sent, reason)
  elseif r.state == REMOVED then
    did = UNCHANGED
  else
    remove(r, now, reason)
    did = REMOVED_IT
  end
  if did ~= UNCHANGED and did ~= KEPT_NEWER and did ~= UNREADABLE and r then
    redis.call('HSET', KEYS[1], token, encode(r))
  end
  reply[#reply + 1] = did
end
return reply
