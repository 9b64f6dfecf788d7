-- The packed record of a device token, as device/record.go describes it. This
-- file is put before the scripts that use it: see scripts.go.
--
-- Times are compared as numbers, never as strings: < on strings follows the
-- locale of the server.

local LIVE, QUARANTINED, REMOVED = 0, 1, 2
local DETAILS, REPLACES = 64, 128
local UNREADABLE = -1

-- decode returns nil for what this version cannot read. rest are the flags but
-- state and accepted; tail is what follows the fields of the state.
local function decode(s)
  if #s < 13 or string.byte(s, 1) ~= 1 then return nil end
  local flags = string.byte(s, 3)
  local r = {
    head = string.byte(s, 2), state = flags % 4, accepted = math.floor(flags / 4) % 2,
    rest = flags - flags % 8, at = get48(s, 4), gen = get32(s, 10),
  }
  local tail = 14
  if r.state == QUARANTINED then
    if #s < 21 then return nil end
    r.changed, r.reason, r.count, tail = get48(s, 14), string.byte(s, 20), string.byte(s, 21), 22
  elseif r.state == REMOVED then
    if #s < 20 then return nil end
    r.changed, r.reason, tail = get48(s, 14), string.byte(s, 20), 21
  elseif r.state ~= LIVE then
    return nil
  end
  r.tail = string.sub(s, tail)
  return r
end

local function encode(r)
  local s = string.char(1, r.head, r.rest + r.accepted * 4 + r.state) .. put48(r.at) .. put32(r.gen)
  if r.state ~= LIVE then s = s .. put48(r.changed) .. string.char(r.reason) end
  if r.state == QUARANTINED then s = s .. string.char(r.count) end
  return s .. r.tail
end

-- has tells whether the flag is set: 8, 16, 32, 64 or 128.
local function has(r, flag) return math.floor(r.rest / flag) % 2 == 1 end

-- The install's key in the record, or nil.
local function install(r)
  if not has(r, 16) then return nil end
  if has(r, 8) then return string.sub(r.tail, 17, 32) end
  return string.sub(r.tail, 1, 16)
end

-- A tombstone for a device token that was never registered.
local function tombstone(now, reason)
  return encode({head = 0, state = REMOVED, accepted = 0, rest = 0, at = 0, gen = 0,
    changed = now, reason = reason, tail = ''})
end

local function remove(r, now, reason)
  r.state, r.changed, r.reason = REMOVED, now, reason
end

-- The generation after this one. It stays below 2^32, and is never 0 again.
local function succ(gen)
  if gen >= 4294967295 then return gen end
  return gen + 1
end
