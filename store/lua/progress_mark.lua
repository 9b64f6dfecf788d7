-- Marks recipients that are settled at a worker and not yet in OUTCOMES.
-- KEYS: settled. ARGV: seconds to live, then 8-byte hash and "m…" with
-- what became of it, repeated.
-- choice: 200 recipients a call, far below what unpack can pass on.
for from = 2, #ARGV, 400 do
  local hashes, fields = {}, {}
  for i = from, math.min(from + 398, #ARGV), 2 do hashes[#hashes + 1] = ARGV[i] end
  local known = redis.call('HMGET', KEYS[1], unpack(hashes))
  for n, hash in ipairs(hashes) do
    if not known[n] or string.sub(known[n], 1, 1) == 'r' then
      fields[#fields + 1] = hash
      fields[#fields + 1] = ARGV[from + 2 * n - 1]
    end
  end
  if #fields > 0 then redis.call('HSET', KEYS[1], unpack(fields)) end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
