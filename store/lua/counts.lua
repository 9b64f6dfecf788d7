-- Adds what messages of OUTCOMES tell to the counts of apps, each message once.
-- KEYS: counts, messages of one block that are in them. ARGV: seconds that the block
-- lives, then number in the block, app, accepted and failed, repeated.
for i = 2, #ARGV, 4 do
  if redis.call('SADD', KEYS[2], ARGV[i]) == 1 then
    redis.call('HINCRBY', KEYS[1], 'accepted:' .. ARGV[i + 1], ARGV[i + 2])
    redis.call('HINCRBY', KEYS[1], 'failed:' .. ARGV[i + 1], ARGV[i + 3])
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 0
