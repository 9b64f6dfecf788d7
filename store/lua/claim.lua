-- Claims some work, or keeps the claim.
-- KEYS: claim. ARGV: who claims it, milliseconds that the claim lives.
-- Returns 1 if it is theirs now, 0 if it is another one's.
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
