-- Grants permits of a campaign's pace: a bucket that leaks at the rate (GCRA), and
-- holds as many permits as come in a tenth of a second. What nobody takes is lost.
--
-- A little more than one is held at low rates, where who asks comes late for the next
-- permit by a part of the time between two that counts; not at one per second, where
-- that would let 11 pass in ten seconds.
--
-- KEYS  the pace
-- ARGV  now in microseconds (0: by the server), permits per second, permits asked for
-- Reply permits granted, microseconds until half of what the bucket holds can be had,
--       or what is still wanted if that is less

local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
local rate, want = tonumber(ARGV[2]), tonumber(ARGV[3])
local slice = math.max(math.floor(rate / 10), 1)
local room = rate > 1 and math.max(rate / 10, rate / 20 + 1) or 1

-- What was taken and has not leaked yet. By another rate it may have been more than
-- there is room for; a clock that was set back must not count as time.
local taken = 0
local at, had = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) ([%d%.]+)$')
if at then
  taken = math.max(math.min(tonumber(had), room) - math.max(now - tonumber(at), 0) * rate / 1000000, 0)
end
local granted = math.max(math.min(want, slice, math.floor(room - taken + 0.000001)), 0)
taken = taken + granted
redis.call('SET', KEYS[1], string.format('%.0f %.6f', now, taken), 'PX', 10000)
if granted == want then return {granted, 0} end
local next = math.min(want - granted, math.max(room / 2, 1))
return {granted, math.max(math.ceil((taken + next - room) * 1000000 / rate), 0)}
