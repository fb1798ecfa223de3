-- Who is present. KEYS: members, users. ARGV: most that are listed.
local clients, users = redis.call('HLEN', KEYS[1]), redis.call('HLEN', KEYS[2])
local most, entries = tonumber(ARGV[1]), {}
if most >= clients then
  entries = redis.call('HVALS', KEYS[1])
elseif most > 0 then
  local some = redis.call('HRANDFIELD', KEYS[1], most, 'WITHVALUES')
  for i = 2, #some, 2 do entries[#entries + 1] = some[i] end
end
return {clients, users, entries}
