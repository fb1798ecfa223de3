-- A channel's position and a part of what is kept, both at one moment.
-- KEYS: meta, history. ARGV: fresh epoch, ttl of meta ms, from, to, most, newest first?
local meta = redis.call('HMGET', KEYS[1], 'e', 'o')
local epoch, offset = meta[1], meta[2]
if not epoch or not offset then
  redis.call('DEL', KEYS[2])
  epoch, offset = ARGV[1], '0'
  redis.call('HSET', KEYS[1], 'e', epoch, 'o', offset)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local kept = redis.call('XLEN', KEYS[2])
local entries = {}
if ARGV[5] ~= '0' then
  if ARGV[6] == '1' then
    entries = redis.call('XREVRANGE', KEYS[2], ARGV[4], ARGV[3], 'COUNT', ARGV[5])
  else
    entries = redis.call('XRANGE', KEYS[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5])
  end
end
return {epoch, tonumber(offset), kept, entries}
