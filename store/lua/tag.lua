-- Puts device tokens into one bucket of a tag, or takes them out, unless the
-- bucket is split further than the caller knows: see store/tags.go.
--
-- KEYS  device tokens, long device tokens
-- ARGV  modulus by which the caller chose the bucket, then for each: device
--       token, what to do (1 put it in, 2 move it in, 3 take it out unless a
--       later generation put it in, 4 take it out if this generation put it in),
--       generation
-- Reply modulus by which it is split, or 0 if the caller's is right; how many
--       device tokens it has then

local PUT, MOVE, UP_TO, EXACTLY = 1, 2, 3, 4
local SHORT = 60

local split = tonumber(redis.call('HGET', KEYS[1], '') or '0')
if split > tonumber(ARGV[1]) then return {split, 0} end

for i = 2, #ARGV, 3 do
  local token, what, gen = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local key = KEYS[#token > SHORT and 2 or 1]
  local held = tonumber(redis.call('HGET', key, token) or '-1')
  if what == PUT then
    -- Whoever is about to take it out, having seen it stale, must see it changed.
    -- The same generation comes again only if a client repeats, a lower one if the
    -- device token was forgotten in between.
    redis.call('HSET', key, token, math.max(gen, held + 1))
  elseif what == MOVE then
    if held < gen then redis.call('HSET', key, token, gen) end
  elseif held >= 0 and ((what == UP_TO and held <= gen) or (what == EXACTLY and held == gen)) then
    redis.call('HDEL', key, token)
  end
end
return {0, redis.call('HLEN', KEYS[1]) + redis.call('HLEN', KEYS[2])}
