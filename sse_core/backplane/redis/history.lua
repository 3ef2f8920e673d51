#!lua flags=allow-oom
-- A topic's newest entries within bounds, and the id after which they are complete.
--
-- KEYS[1]  {namespace}:clock
-- ARGV     topic, after, until, max_events, max_bytes, age_ms (0: any age): entries with after < id <= until
-- Returns  floor, then {id, {field, value, ...}} for each entry, oldest first. Nothing of the topic that is after `floor`
--          and not after `until` is missing.
local call = redis.call
local match, format = string.match, string.format
-- Few round trips into Redis for a long history, and little read in vain where it is bound by bytes.
local CHUNK = 128
-- What an entry takes besides its fields' values, when framed.
local OVERHEAD = 40

local clock = KEYS[1]
if #KEYS ~= 1 or not string.find(clock, "^{[%w_.-]+}:clock$") then
  return redis.error_reply("SSE arguments: the one key is {namespace}:clock")
end
local topic, after, upto = ARGV[1], ARGV[2], ARGV[3]
local max_events, max_bytes, age = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if #ARGV ~= 6 or topic == "" or not (max_events and max_bytes and age) or max_events < 1 or age < 0 then
  return redis.error_reply("SSE arguments: topic, after, until, max_events, max_bytes, age_ms")
end

local function parse(id)
  local ms, seq = match(id, "^(%d+)-(%d+)$")
  return ms + 0, seq + 0
end

local prefix = string.sub(clock, 1, -6)
local key = prefix .. "topic:" .. topic
local state = call("HMGET", clock, "last", "born")
local last, born = state[1], state[2]
local time = call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if last then
  now = math.max(now, (parse(last)))
end

-- Trimming leaves some that are too old.
local lowest = "(" .. after
if age > 0 and now - age > parse(after) then
  lowest = format("%.0f-0", now - age)
end

local found, count, bytes = {}, 0, 0
local highest = upto
while count < max_events do
  local chunk = call("XREVRANGE", key, highest, lowest, "COUNT", math.min(CHUNK, max_events - count))
  for _, entry in ipairs(chunk) do
    local fields = entry[2]
    bytes = bytes + OVERHEAD
    for i = 2, #fields, 2 do
      bytes = bytes + #fields[i]
    end
    -- One event is the least, however large.
    if bytes > max_bytes and count > 0 then
      chunk = {}
      break
    end
    count = count + 1
    found[count] = entry
  end
  if #chunk < CHUNK then
    break
  end
  highest = "(" .. found[count][1]
end

-- An entry that was not written by us names no predecessor: nothing is known of what was before it.
local function before(entry)
  local fields = entry[2]
  return fields[1] == "before" and fields[2] or entry[1]
end

local floor
if count > 0 then
  floor = before(found[count])
else
  local later = call("XRANGE", key, "(" .. upto, "+", "COUNT", 1)[1]
  floor = later and before(later) or call("GET", prefix .. "tail:" .. topic)
  if not floor then
    -- The topic never had an event, or all of them have expired, and those were older than `age`.
    floor = born or upto
    if age > 0 and now - age > parse(floor) then
      floor = format("%.0f-0", now - age)
    end
  end
  local floor_ms, floor_seq = parse(floor)
  local upto_ms, upto_seq = parse(upto)
  if floor_ms > upto_ms or (floor_ms == upto_ms and floor_seq > upto_seq) then
    floor = upto
  end
end

local reply = { floor }
for i = count, 1, -1 do
  reply[count - i + 2] = found[i]
end
return reply
