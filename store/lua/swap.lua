-- Changes records of one bucket that are still as they were read.
--
-- KEYS  records
-- ARGV  for each: device token, record as read, record to be
-- Reply for each: 1 changed, 0 it was not as read

local reply = {}
for i = 1, #ARGV, 3 do
  local same = redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1]
  if same then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2]) end
  reply[#reply + 1] = same and 1 or 0
end
return reply
