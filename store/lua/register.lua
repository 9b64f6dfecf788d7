-- Registers device tokens of one bucket.
--
-- KEYS  records, details, replacements
-- ARGV  now, then for each: device token, record without time and generation,
--       details ('' is none), time that it must be registered after,
--       replacements to remember (for each: how, length - 1, old token)
-- Reply for each: registered at, generation (0: a record that this version
--       cannot read is in the way), record before, replacements remembered,
--       details before if they were others

local now = clock(ARGV[1])
local reply = {}

-- Replacements that a crash kept from being finished are remembered up to this
-- many bytes, then the oldest is forgotten.
local MAX_REMEMBERED = 4096

-- A time that is this far ahead was not written by a clock that is right.
local WRONG_CLOCK = 86400000

for i = 2, #ARGV, 5 do
  local token, details, pending = ARGV[i], ARGV[i + 2], ARGV[i + 4]
  local raw = redis.call('HGET', KEYS[1], token)
  local old = raw and decode(raw)
  local at, gen, remembered, replaced = 0, 0, '', ''
  if old or not raw then
    -- A clock that is ahead elsewhere must not let an old device token look newer
    -- than the one that takes its place. For the same reason the time of one never
    -- goes back, but to get rid of what a clock that was wrong by days has left.
    at = math.max(now, tonumber(ARGV[i + 3]) + 1)
    if old and old.at < now + WRONG_CLOCK then at = math.max(at, old.at) end
    gen = succ(old and old.gen or 0)
    local new = decode(ARGV[i + 1])
    new.at, new.gen, new.accepted = at, gen, old and old.accepted or 0

    local kept = old and has(old, DETAILS) and redis.call('HGET', KEYS[2], token)
    if kept and string.sub(kept, 7) ~= details then replaced = string.sub(kept, 7) end
    if details ~= '' then
      local created = put48(at)
      if old and has(old, DETAILS) then
        if kept then created = string.sub(kept, 1, 6) end
      elseif old and old.at > 0 then
        created = put48(old.at)
      end
      redis.call('HSET', KEYS[2], token, created .. details)
      new.rest = new.rest + DETAILS
    elseif old and has(old, DETAILS) then
      redis.call('HDEL', KEYS[2], token)
    end

    if old and has(old, REPLACES) then
      remembered = redis.call('HGET', KEYS[3], token) or ''
    end
    if pending ~= '' then
      local p = 1
      while p <= #pending do
        local last = p + 2 + string.byte(pending, p + 1)
        remembered = remembered .. put48(at) .. string.sub(pending, p, last)
        p = last + 1
      end
      while #remembered > MAX_REMEMBERED do
        remembered = string.sub(remembered, 10 + string.byte(remembered, 8))
      end
      redis.call('HSET', KEYS[3], token, remembered)
    end
    if remembered ~= '' then new.rest = new.rest + REPLACES end

    redis.call('HSET', KEYS[1], token, encode(new))
  end
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = at, gen, raw or '', remembered
  reply[n + 5] = replaced
end
return reply
