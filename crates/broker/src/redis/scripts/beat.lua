-- A node is alive. Says whether it was thought dead, which life of the broker's memory this is, and which nodes are dead.
-- KEYS: nodes, era. ARGV: node, lease ms, fresh era.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('SETNX', KEYS[2], ARGV[3])
local dead = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - tonumber(ARGV[2])), 'LIMIT', 0, 16)
return {known and 1 or 0, redis.call('GET', KEYS[2]), dead}
