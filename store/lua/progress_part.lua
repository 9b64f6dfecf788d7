-- Adds some recipients of a job to what is settled, and counts each once.
-- KEYS: progress, settled, held, of a range totals. ARGV: seconds to live, seconds
-- that totals live, sequence of the outcome, 1 if with this the job is complete, total,
-- devices, seconds that hashes live after that, milliseconds that the job's message
-- must be kept (0: none), then 8-byte hash and label, repeated.
-- A hash's value is "m…" while only marked by a worker, "r…" while it waits for a
-- retry, and else the sequence of the outcome that settled it. That tells an
-- outcome that is applied again from a second outcome. A label that is more than the
-- result comes after it, since a rejection may be taken back.
-- A job with held recipients (progress_hold.lua) is not done before those are
-- settled, whatever an outcome says.
-- That an outcome held duplicates is remembered too, under its sequence and its first
-- hash: applied again, it must not count them again.
-- Once a job is done its hashes live on for a while. What comes later cannot be told
-- from what is counted, and is not counted.
-- Returns counted, duplicates.
local seq = ARGV[3]
local whole = redis.call('HGET', KEYS[1], 'by')
local counted, duplicates = 0, 0
if not whole and redis.call('HGET', KEYS[1], 'done') == '1' and redis.call('EXISTS', KEYS[2]) == 0 then
  return {0, 0}
end
local before = KEYS[4] and complete()
local held = redis.call('EXISTS', KEYS[3]) == 1
local labels = {}
-- choice: 200 recipients a call, far below what unpack can pass on.
for from = 9, #ARGV, 400 do
  local hashes = {}
  for i = from, math.min(from + 398, #ARGV), 2 do hashes[#hashes + 1] = ARGV[i] end
  local known = redis.call('HMGET', KEYS[2], unpack(hashes))
  local settled, fields, seen = {}, {}, {}
  for n, hash in ipairs(hashes) do
    local label, was = ARGV[from + 2 * n - 1], known[n]
    local by = was and string.match(was, '^%d+')
    if seen[hash] or by == seq or (not was and whole == seq) then
      -- applied again
    elseif whole or by then
      duplicates = duplicates + 1
    else
      seen[hash] = true
      settled[#settled + 1] = hash
      fields[#fields + 1] = hash
      fields[#fields + 1] = string.find(label, '^rejected:') and seq .. ' ' .. label or seq
      labels[label] = (labels[label] or 0) + 1
    end
  end
  if #settled > 0 then
    redis.call('HSET', KEYS[2], unpack(fields))
    if held then redis.call('SREM', KEYS[3], unpack(settled)) end
    counted = counted + #settled
  end
end
for label, n in pairs(labels) do count('n:' .. label, n) end
-- Where the outcomes of a job are in OUTCOMES, for who asks for its status; not of a
-- range, whose outcomes have a subject of their own. Bounded, so that the hash stays a
-- listpack; a field of its own with a number in it, as workers of before this expect.
if counted > 0 and not KEYS[4] and redis.call('HLEN', KEYS[1]) < 96 then
  redis.call('HSET', KEYS[1], 'o:' .. seq, '1')
end
if duplicates > 0 and redis.call('HSETNX', KEYS[1], 'd:' .. seq .. ':' .. ARGV[9], duplicates) == 0 then
  duplicates = 0
end
if duplicates > 0 then
  count('duplicates', duplicates)
end
if ARGV[8] ~= '0' then
  redis.call('HSET', KEYS[1], 'keep', clock('0') + tonumber(ARGV[8]))
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
local last = ARGV[4] == '1'
if last then
  redis.call('HSET', KEYS[1], 'total', ARGV[5])
  if KEYS[4] then redis.call('HSETNX', KEYS[1], 'devices', ARGV[6]) end
  redis.call('HDEL', KEYS[1], 'retry_at')
end
if redis.call('SCARD', KEYS[3]) > 0 then
  if last then redis.call('HSET', KEYS[1], 'told', '1') end
  redis.call('EXPIRE', KEYS[2], ARGV[1])
elseif last or redis.call('HGET', KEYS[1], 'told') == '1' then
  redis.call('HSET', KEYS[1], 'done', '1')
  redis.call('HDEL', KEYS[1], 'told')
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  redis.call('EXPIRE', KEYS[2], ARGV[7])
elseif redis.call('HGET', KEYS[1], 'done') ~= '1' then
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
if before then total(before, ARGV[2]) end
return {counted, duplicates}
