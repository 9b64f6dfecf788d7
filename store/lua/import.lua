-- Registers device tokens of one bucket that another system knew, unless the
-- token set knows better.
--
-- KEYS  records, details, replacements
-- ARGV  now, 1 to overwrite what is known, then for each: device token, record
--       without time and generation, details ('' is none), when it was registered
--       there (0 is not known), when first (0 is not known), time that it must be
--       registered after, replacements to remember (as for register.lua)
-- Reply for each: what was done, registered at, generation, record before,
--       replacements remembered, details before if they were others

local NEW, AGAIN, LEFT, NEWER = 1, 2, 3, 6 -- LEFT + state
local now, overwrite = clock(ARGV[1]), ARGV[2] == '1'
local reply = {}

for i = 3, #ARGV, 7 do
  local token, details, pending = ARGV[i], ARGV[i + 2], ARGV[i + 6]
  local from, created = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  local raw = redis.call('HGET', KEYS[1], token)
  local old = raw and decode(raw)
  local at, gen, did, remembered, replaced = 0, 0, NEW, '', ''
  if raw and not old then
    did = UNREADABLE
  elseif old and not overwrite then
    did = LEFT + old.state
  elseif old and old.state == LIVE and from > 0 and old.at > from then
    did = NEWER
  else
    at = now
    if from > 0 then at = math.min(from, now) end
    at = math.max(at, tonumber(ARGV[i + 5]) + 1)
    gen = succ(old and old.gen or 0)
    local new = decode(ARGV[i + 1])
    new.at, new.gen = at, gen
    if old then
      did = AGAIN
      new.at = math.max(at, math.min(old.at, now))
      at = new.at
      new.accepted = math.max(new.accepted, old.accepted)
    end

    local kept = old and has(old, DETAILS) and redis.call('HGET', KEYS[2], token)
    if kept and string.sub(kept, 7) ~= details then replaced = string.sub(kept, 7) end
    if details ~= '' then
      local first = at
      if created > 0 then first = math.min(created, at) end
      first = put48(first)
      if kept then first = string.sub(kept, 1, 6) end
      redis.call('HSET', KEYS[2], token, first .. details)
      new.rest = new.rest + DETAILS
    elseif old and has(old, DETAILS) then
      redis.call('HDEL', KEYS[2], token)
    end

    if old and has(old, REPLACES) then
      remembered = redis.call('HGET', KEYS[3], token) or ''
    end
    local p = 1
    while p <= #pending do
      local last = p + 2 + string.byte(pending, p + 1)
      remembered = remembered .. put48(at) .. string.sub(pending, p, last)
      p = last + 1
    end
    if remembered ~= '' then
      redis.call('HSET', KEYS[3], token, remembered)
      new.rest = new.rest + REPLACES
    end
    redis.call('HSET', KEYS[1], token, encode(new))
  end
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = did, at, gen, raw or '', remembered
  reply[n + 6] = replaced
end
return reply
