-- Takes device tokens of one bucket out of quarantine, if they are in it for the
-- rejection that is given and were not registered since.
--
-- KEYS  records
-- ARGV  for each: device token, generation at the send
-- Reply how many were released

local released = 0
for i = 1, #ARGV, 2 do
  local raw = redis.call('HGET', KEYS[1], ARGV[i])
  local r = raw and decode(raw)
  if r and r.state == QUARANTINED and r.gen == tonumber(ARGV[i + 1]) then
    -- A higher generation keeps the rejection from being applied once more.
    r.state, r.gen = LIVE, succ(r.gen)
    redis.call('HSET', KEYS[1], ARGV[i], encode(r))
    released = released + 1
  end
end
return released
