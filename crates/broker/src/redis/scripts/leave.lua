-- A member is present no more, or all of a node that is dead; everyone who heard of them hears of it once.
-- KEYS: members, users. ARGV: client or '', node, live channel, the word that publishes.
local function leave(client, entry)
  if string.sub(entry, 1, 16) ~= ARGV[2] then return end
  redis.call('HDEL', KEYS[1], client)
  local length, rest = string.match(string.sub(entry, 18), '^(%d+) (.*)$')
  local user, member = string.sub(rest, 1, tonumber(length)), string.sub(rest, tonumber(length) + 1)
  if user ~= '' and redis.call('HINCRBY', KEYS[2], user, -1) <= 0 then redis.call('HDEL', KEYS[2], user) end
  if string.sub(entry, 17, 17) == '1' then redis.call(ARGV[4], ARGV[3], 'L' .. member) end
end
if ARGV[1] ~= '' then
  local entry = redis.call('HGET', KEYS[1], ARGV[1])
  if entry then leave(ARGV[1], entry) end
else
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do leave(all[i], all[i + 1]) end
end
return 0
