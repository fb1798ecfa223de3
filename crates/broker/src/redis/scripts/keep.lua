-- A row, unless one as new is kept; says whether it is kept now.
-- KEYS: row. ARGV: version in 16 hexadecimal digits, content, ttl ms.
if redis.call('GETRANGE', KEYS[1], 0, 15) >= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return 1
