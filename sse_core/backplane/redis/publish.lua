#!lua
-- Publishes events: all of them or none, in one order for the whole namespace.
--
-- KEYS[1]  {namespace}:clock; every other key shares its hash tag and is derived from it
-- ARGV     batch_key, key_window_ms, max_keys, then eight for each event:
--          topic, max_events, age_ms, key, event, comment, retry, data ('' where there is none)
-- Returns  id, 0|1 (a duplicate), ... for each event; or an error "SSE <field>: <reason>", and then nothing was changed.
--
-- docs/redis.md is the contract for callers.
local call = redis.call
local find, match, format, concat = string.find, string.match, string.format, table.concat
local HEAD, WIDTH = 3, 8
local SEQUENCES = 2 ^ 20
local MAX_RETRY = 2 ^ 31 - 1
-- A receiver gets a message as a whole, so a batch is cut into several.
local MESSAGE_BYTES = 65536
-- unpack() is bound by Lua's stack.
local CHUNK = 1000

local function refuse(field, reason)
  return redis.error_reply("SSE " .. field .. ": " .. reason)
end

local function is_count(text)
  return #text <= 15 and find(text, "^%d+$") ~= nil
end

local clock = KEYS[1]
local argc = #ARGV
if #KEYS ~= 1 or not find(clock, "^{[%w_.-]+}:clock$") then
  return refuse("arguments", "the one key is {namespace}:clock")
end
if argc < HEAD + WIDTH or (argc - HEAD) % WIDTH ~= 0 then
  return refuse("arguments", "three, then eight for each event")
end
local batch_key = ARGV[1]
local window, max_keys = tonumber(ARGV[2]), tonumber(ARGV[3])
if not (is_count(ARGV[2]) and is_count(ARGV[3])) or window < 1 or max_keys < 2 then
  return refuse("arguments", "key_window_ms is a number from 1 and max_keys one from 2")
end
if find(batch_key, "[%z\r\n]") then
  return refuse("batch_key", "must not contain CR, LF or NUL")
end

-- Everything is checked before anything is written.
local prefix = string.sub(clock, 1, -6)
local topics, topic_keys, topic_count = {}, {}, 0
local keys, key_count = {}, 0
for at = HEAD + 1, argc, WIDTH do
  local topic, max_events, age, key = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local event, retry = ARGV[at + 4], ARGV[at + 6]
  if topic == "" then
    return refuse("topic", "must not be empty")
  end
  if not is_count(max_events) or max_events + 0 < 1 then
    return refuse("max_events", "must be a number from 1")
  end
  if not is_count(age) then
    return refuse("age_ms", "must be a number from 0")
  end
  if key ~= "" then
    if find(key, "[%z\r\n]") then
      return refuse("key", "must not contain CR, LF or NUL")
    end
    key_count = key_count + 1
    keys[key_count] = key
  end
  if event ~= "" and find(event, "[\r\n]") then
    return refuse("event", "must not contain CR or LF")
  end
  if find(ARGV[at + 5], "\r", 1, true) then
    return refuse("comment", "must not contain CR; LF ends a line")
  end
  if retry ~= "" and (not is_count(retry) or retry + 0 > MAX_RETRY) then
    return refuse("retry", "must be digits, at most 2147483647")
  end
  if find(ARGV[at + 7], "\r", 1, true) then
    return refuse("data", "must not contain CR; LF ends a line")
  end
  local state = topics[topic]
  if not state then
    topic_count = topic_count + 1
    state = { key = prefix .. "topic:" .. topic, tail_key = prefix .. "tail:" .. topic }
    topics[topic] = state
    topics[topic_count] = state
    topic_keys[2 * topic_count - 1], topic_keys[2 * topic_count] = state.tail_key, state.key
  end
  state.max_events, state.age = max_events, age + 0
end

local time = call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = call("HMGET", clock, "last", "born", "keys", "batches")
local last, born = state[1], state[2]
local ms, seq, born_ms
if last then
  ms, seq = match(last, "^(%d+)-(%d+)$")
  ms, seq = ms + 0, seq + 0
else
  ms, seq = now, 0
  last = format("%.0f-0", now)
end
born = born or last
born_ms = match(born, "^%d+") + 0

-- What is remembered, and since when its newer generation is. Keys of batches are apart: there may be one for each call,
-- and those must not push out the keys that callers chose.
local KEYS_OF_EVENTS = { name = "keys", evicted = "evicted", began = tonumber(state[3]) }
local KEYS_OF_BATCHES = { name = "batches", evicted = "evicted_batches", began = tonumber(state[4]) }
local oldest_kept = (now > ms and now or ms) - window

-- Looked up in both generations. The window is exact, whatever a generation still holds.
local function recall(kind, wanted, count)
  local found = {}
  for _, generation in ipairs({ prefix .. kind.name, prefix .. kind.name .. ":old" }) do
    for from = 1, count, CHUNK do
      local upto = math.min(from + CHUNK - 1, count)
      local values = call("HMGET", generation, unpack(wanted, from, upto))
      for i = from, upto do
        local value = values[i - from + 1]
        if value and match(value, "^%d+") + 0 >= oldest_kept then
          found[wanted[i]] = value
        end
      end
    end
  end
  return found
end

-- A generation that is full, or as old as the window, becomes the older one. What was the older one is forgotten.
local function remember(kind, fields, count)
  local key, old_key = prefix .. kind.name, prefix .. kind.name .. ":old"
  local held = call("HLEN", key)
  local age = now - (kind.began or 0)
  if held > 0 and (age >= window or held + count / 2 > max_keys / 2) then
    if age < window then
      local early = call("HLEN", old_key)
      if early > 0 then
        call("HINCRBY", clock, kind.evicted, early)
      end
    end
    call("RENAME", key, old_key)
    held = 0
  end
  for from = 1, count, CHUNK do
    call("HSET", key, unpack(fields, from, math.min(from + CHUNK - 1, count)))
  end
  if held == 0 then
    -- Nothing is added to a generation older than the window, so twice the window outlives all that is in it.
    call("PEXPIRE", key, format("%.0f", 2 * window))
    call("HSET", clock, kind.name, format("%.0f", now))
  end
end

-- A caller that waits for replicas has this connection's last write acknowledged. So what was published before is written
-- once more, or WAIT would be content with replicas that never got it.
local function touch()
  call("HSET", clock, "last", last, "born", born)
end

if batch_key ~= "" then
  local value = recall(KEYS_OF_BATCHES, { batch_key }, 1)[batch_key]
  if value then
    local reply, size = {}, 0
    for id, duplicate in string.gmatch(value, "([^:,]+):(%d)") do
      reply[size + 1], reply[size + 2] = id, duplicate + 0
      size = size + 2
    end
    if size / 2 ~= (argc - HEAD) / WIDTH then
      return refuse("batch_key", format("was used for a batch of %d", size / 2))
    end
    touch()
    return reply
  end
end
local known = key_count > 0 and recall(KEYS_OF_EVENTS, keys, key_count) or {}

-- Where the clock was lost but a topic was not, ids go on above all that a topic of this call has. The streams (of which
-- MGET says nothing) are named as well since a Cluster that is just moving them refuses then, before anything is written.
for from = 1, 2 * topic_count, CHUNK do
  local upto = math.min(from + CHUNK - 1, 2 * topic_count)
  local values = call("MGET", unpack(topic_keys, from, upto))
  for i = from, upto, 2 do
    local tail = values[i - from + 1]
    if tail then
      topics[(i + 1) / 2].tail = tail
      local tail_ms, tail_seq = match(tail, "^(%d+)-(%d+)$")
      tail_ms, tail_seq = tail_ms + 0, tail_seq + 0
      if tail_ms > ms or (tail_ms == ms and tail_seq > seq) then
        ms, seq = tail_ms, tail_seq
      end
    end
  end
end

-- Ids, as they would be given one by one.
if now > ms then
  ms, seq = now, -1
end
local head = format("%.0f-", ms)
local reply, size = {}, 0
local fields, field_count = {}, 0
for at = HEAD + 1, argc, WIDTH do
  local key = ARGV[at + 3]
  local id = key ~= "" and known[key]
  if id then
    reply[size + 1], reply[size + 2] = id, 1
  else
    seq = seq + 1
    if seq == SEQUENCES then
      ms, seq = ms + 1, 0
      head = format("%.0f-", ms)
    end
    id = head .. seq
    last = id
    reply[size + 1], reply[size + 2] = id, 0
    if key ~= "" then
      known[key] = id
      fields[field_count + 1], fields[field_count + 2] = key, id
      field_count = field_count + 2
    end
  end
  size = size + 2
end
-- The clock goes first: whatever fails after it, no id is given twice.
touch()

local messages, parts, part_count, bytes, open = {}, {}, 0, 0, nil
local function finish()
  messages[#messages + 1] = { prefix .. "live:" .. open, concat(parts, "", 1, part_count) }
  part_count, bytes = 0, 0
end

local none = { [""] = "-" }
for at = HEAD + 1, argc, WIDTH do
  local i = (at - HEAD - 1) / WIDTH * 2 + 1
  if reply[i + 1] == 0 then
    local topic, event, comment, retry, data = ARGV[at], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
    local id, state = reply[i], topics[topic]
    local age = state.age
    local before = state.tail
    -- Who listens has heard all there was since the feed was born. An estimate would look like something missing.
    local told = before or born
    if not before then
      -- What the topic may have had expired when it was older than `age`, so nothing after that can be missing.
      local id_ms = match(id, "^%d+") + 0
      before = (age == 0 or id_ms - age < born_ms) and born or format("%.0f-0", id_ms - age)
    end
    if event == "" and comment == "" and retry == "" then
      call("XADD", state.key, id, "before", before, "data", data)
    else
      local entry = { "before", before, "data", data }
      if event ~= "" then
        entry[5], entry[6] = "event", event
      end
      if comment ~= "" then
        entry[#entry + 1], entry[#entry + 2] = "comment", comment
      end
      if retry ~= "" then
        entry[#entry + 1], entry[#entry + 2] = "retry", retry
      end
      call("XADD", state.key, id, unpack(entry))
    end
    state.tail, state.fresh = id, true
    if part_count > 0 and (open ~= topic or bytes >= MESSAGE_BYTES) then
      finish()
    end
    open = topic
    parts[part_count + 1] = id .. " " .. told .. " " .. (none[event] or #event) .. " "
      .. (none[comment] or #comment) .. " " .. (none[retry] or retry) .. " " .. #data .. "\n"
    parts[part_count + 2], parts[part_count + 3], parts[part_count + 4] = event, comment, data
    part_count = part_count + 4
    bytes = bytes + #data + #event + #comment
  end
end
if part_count > 0 then
  finish()
end

for i = 1, topic_count do
  local state = topics[i]
  if state.fresh then
    call("XTRIM", state.key, "MAXLEN", "~", state.max_events)
    if state.age > 0 then
      if ms > state.age then
        call("XTRIM", state.key, "MINID", "~", format("%.0f-0", ms - state.age))
      end
      -- By the id's own time: a clock that was set back must not let an event expire before `age` has passed.
      local at = format("%.0f", ms + state.age)
      call("PEXPIREAT", state.key, at)
      call("SET", state.tail_key, state.tail, "PXAT", at)
    else
      call("PERSIST", state.key)
      call("SET", state.tail_key, state.tail)
    end
  end
end

-- After the events: a key that is known vouches for an event that is stored.
if field_count > 0 then
  remember(KEYS_OF_EVENTS, fields, field_count)
end
if batch_key ~= "" then
  local parts = {}
  for i = 1, size, 2 do
    parts[(i + 1) / 2] = reply[i] .. ":" .. reply[i + 1]
  end
  remember(KEYS_OF_BATCHES, { batch_key, concat(parts, ",") }, 2)
end

for _, message in ipairs(messages) do
  call("SPUBLISH", message[1], message[2])
end
return reply
