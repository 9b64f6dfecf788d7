-- Forgets replacements that are finished, unless more were remembered since.
--
-- KEYS  records, replacements
-- ARGV  for each: device token, replacements that are finished

for i = 1, #ARGV, 2 do
  local token = ARGV[i]
  if redis.call('HGET', KEYS[2], token) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[2], token)
    local raw = redis.call('HGET', KEYS[1], token)
    local r = raw and decode(raw)
    if r and has(r, REPLACES) then
      r.rest = r.rest - REPLACES
      redis.call('HSET', KEYS[1], token, encode(r))
    end
  end
end
return 0
