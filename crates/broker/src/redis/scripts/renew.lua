-- The broker has forgotten what was delivered already: offsets would be given out twice, so a new epoch begins.
-- KEYS: meta, history, keys. ARGV: fresh epoch, the epoch, an offset of it that was given out, ttl of meta ms.
local meta = redis.call('HMGET', KEYS[1], 'e', 'o')
if meta[1] == ARGV[2] and tonumber(meta[2]) < tonumber(ARGV[3]) then
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[1], 'e', ARGV[1], 'o', '0')
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 0
