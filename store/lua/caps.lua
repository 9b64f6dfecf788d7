-- Counts campaigns to users against their frequency caps.
--
-- A field is what is capped (a hash), its value the campaigns that count, each six
-- bytes of a hash and four of the time in seconds. The field "" is the longest window
-- that was asked for: caps of one kind may have several, so what is older than one
-- may count for another. It is how long the bucket lives, too.
--
-- KEYS  the bucket
-- ARGV  now (0: by the server), then for each claim: what is capped, the campaign's
--       hash, how many may count, seconds of the window, 1 to count without a limit
-- Reply for each: 1 granted, 0 not

local now = math.floor(clock(ARGV[1]) / 1000)
local known = tonumber(redis.call('HGET', KEYS[1], '') or '0')
local longest = known
for i = 5, #ARGV, 5 do longest = math.max(longest, tonumber(ARGV[i])) end

-- within returns the part of a value that counts in a window, how many campaigns
-- that are, and whether a certain one is among them.
local function within(value, window, by)
  local kept, n, mine = '', 0, false
  for at = 1, #value - 9, 10 do
    if now - get32(value, at + 6) < window then
      kept = kept .. string.sub(value, at, at + 9)
      n = n + 1
      mine = mine or string.sub(value, at, at + 5) == by
    end
  end
  return kept, n, mine
end

local reply, fresh = {}, false
for i = 2, #ARGV, 5 do
  local by = ARGV[i + 1]
  local value = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  local _, n, mine = within(value, tonumber(ARGV[i + 3]), by)
  if mine then
    reply[#reply + 1] = 1
  elseif n < tonumber(ARGV[i + 2]) or ARGV[i + 4] == '1' then
    redis.call('HSET', KEYS[1], ARGV[i], within(value, longest, by) .. by .. put32(now))
    fresh = true
    reply[#reply + 1] = 1
  else
    reply[#reply + 1] = 0
  end
end
if not fresh then return reply end

if longest > known then redis.call('HSET', KEYS[1], '', longest) end
redis.call('EXPIRE', KEYS[1], longest)
-- Whoever no campaign comes to any more is forgotten in passing: as many are looked at
-- as were counted, on the whole. math.random says the same in each run of a script.
if (string.byte(ARGV[2], -1) + now) % 4 == 0 then
  for _, field in ipairs(redis.call('HRANDFIELD', KEYS[1], 4)) do
    if field ~= '' and within(redis.call('HGET', KEYS[1], field), longest, '') == '' then
      redis.call('HDEL', KEYS[1], field)
    end
  end
end
return reply
