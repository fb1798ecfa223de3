-- A member is present; everyone hears of it once.
-- KEYS: members, users. ARGV: client, node, member, user or '', ttl ms, live channel, the word that publishes, tell?
local entry = ARGV[2] .. ARGV[8] .. string.format('%d ', #ARGV[4]) .. ARGV[4] .. ARGV[3]
local is_new = redis.call('HSET', KEYS[1], ARGV[1], entry)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if is_new == 0 then return 0 end
if ARGV[4] ~= '' then
  redis.call('HINCRBY', KEYS[2], ARGV[4], 1)
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
if ARGV[8] == '1' then redis.call(ARGV[7], ARGV[6], 'J' .. ARGV[3]) end
return 1
