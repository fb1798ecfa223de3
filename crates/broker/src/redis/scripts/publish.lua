-- One act: the next offset, history and fan-out happen together or not at all.
-- KEYS: meta, history, keys[, order]. ARGV: fresh epoch, draft, publications kept, ttl of history ms, ttl of meta ms,
-- live channel, the word that publishes, idempotency key or '', what it says.
local meta = redis.call('HMGET', KEYS[1], 'e', 'o')
local epoch, offset = meta[1], tonumber(meta[2])
local keep = tonumber(ARGV[3])
if not epoch or not offset then
  redis.call('DEL', KEYS[2], KEYS[3])
  epoch, offset = ARGV[1], 0
end
if ARGV[8] ~= '' and keep > 0 then
  local before = redis.call('HGET', KEYS[3], 'k' .. ARGV[8])
  if before then
    local at, said = string.match(before, '^(%d+) (.*)$')
    if #redis.call('XRANGE', KEYS[2], at .. '-0', at .. '-0') > 0 then
      if said == ARGV[9] then return {epoch, tonumber(at)} end
      return {epoch, -1}
    end
  end
end
offset = offset + 1
local order = 0
if KEYS[4] then
  order = redis.call('INCR', KEYS[4])
  -- Whoever connects puts it forward to the time in microseconds; so little means that it was lost.
  if order < 1000000000000000 then
    local now = redis.call('TIME')
    order = now[1] * 1000000 + now[2]
    redis.call('SET', KEYS[4], string.format('%d', order))
  end
end
if keep > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', keep, string.format('%d-0', offset), 'd', ARGV[2], 'n', string.format('%d', order))
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  -- A key is kept as long as its publication.
  local gone = string.format('o%d', offset - keep)
  local old = redis.call('HGET', KEYS[3], gone)
  if old then redis.call('HDEL', KEYS[3], gone, 'k' .. old) end
  if ARGV[8] ~= '' then
    redis.call('HSET', KEYS[3], 'k' .. ARGV[8], string.format('%d %s', offset, ARGV[9]), string.format('o%d', offset), ARGV[8])
  end
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
else
  redis.call('DEL', KEYS[2], KEYS[3])
end
redis.call('HSET', KEYS[1], 'e', epoch, 'o', string.format('%d', offset))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call(ARGV[7], ARGV[6], string.format('P%s %d %d ', epoch, offset, order) .. ARGV[2])
return {epoch, offset}
