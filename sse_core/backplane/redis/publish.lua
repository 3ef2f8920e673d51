#!lua
-- Publishes events: all of them or none, in one order for the whole namespace.
--
-- KEYS[1]  {namespace}:clock; every other key shares its hash tag and is derived from it
-- ARGV     batch_key, key_window_ms, max_keys, then eight for each event:
--          topic, max_events, age_ms, key, event, comment, retry, data ('' where there is none)
-- Returns  id, 0|1 (a duplicate), ... for each event; or an error "SSE <field>: <reason>", and then nothing was changed.
--
-- docs/redis.md is the contract for callers.
--
-- PERF: a call for one event is mostly overhead. So functions take what they need (each local that one would capture is an
-- allocation), tables are made with their fields or not at all, and what is seldom needed is asked for seldom.
local call = redis.call
local find, match, format, concat, floor = string.find, string.match, string.format, table.concat, math.floor
local HEAD, WIDTH = 3, 8
local SEQUENCES = 2 ^ 20
local MAX_RETRY = 2 ^ 31 - 1
-- A receiver gets a message as a whole, so a batch is cut into several.
local MESSAGE_BYTES = 65536
-- unpack() is bound by Lua's stack.
local CHUNK = 1000
-- What is too old is looked for so many times in the time that a topic remembers: each time costs as much as an event.
local SWEEPS = 64

local function refuse(field, reason)
  return redis.error_reply("SSE " .. field .. ": " .. reason)
end

-- Looks keys up in both generations. The window is exact, whatever a generation still holds.
local function recall(generation, wanted, count, chunk, oldest_kept)
  local found = {}
  for _ = 1, 2 do
    for from = 1, count, chunk do
      local upto = math.min(from + chunk - 1, count)
      local values = redis.call("HMGET", generation, unpack(wanted, from, upto))
      for i = from, upto do
        local value = values[i - from + 1]
        if value and string.match(value, "^%d+") + 0 >= oldest_kept then
          found[wanted[i]] = value
        end
      end
    end
    generation = generation .. ":old"
  end
  return found
end

-- A generation that is full, or as old as the window, becomes the older one; what was the older one is forgotten. `told`
-- is what the clock says of the newer one: since when it is, and how many it has. Returns that with `count` more of them,
-- and whether it has just begun.
local function rotate(clock, name, key, told, count, now, window, max_keys)
  local began, total
  if told then
    began, total = string.match(told, "^(%d+) (%d+)$")
    began, total = began + 0, total + 0
  end
  if began and now - began < window and total + count <= max_keys / 2 then
    return string.format("%.0f %.0f", began, total + count), false
  end
  -- One that is older than twice the window has expired.
  if began and now - began < 2 * window then
    if now - began < window then
      local early = redis.call("HLEN", key .. ":old")
      if early > 0 then
        redis.call("HINCRBY", clock, "evicted_" .. name, early)
      end
    end
    -- Somebody may have removed it.
    redis.pcall("RENAME", key, key .. ":old")
  end
  return string.format("%.0f %.0f", now, count), true
end

-- 1. Everything is checked before anything is written.

local clock = KEYS[1]
local argc = #ARGV
if #KEYS ~= 1 or not find(clock, "^{[%w_.-]+}:clock$") then
  return refuse("arguments", "the one key is {namespace}:clock")
end
if argc < HEAD + WIDTH or (argc - HEAD) % WIDTH ~= 0 then
  return refuse("arguments", "three, then eight for each event")
end
local batch_key, window, max_keys = ARGV[1], ARGV[2], ARGV[3]
if not (find(window, "^%d+$") and find(max_keys, "^%d+$")) or #window > 15 or #max_keys > 15
  or window + 0 < 1 or max_keys + 0 < 2 then
  return refuse("arguments", "key_window_ms is a number from 1 and max_keys one from 2")
end
window, max_keys = window + 0, max_keys + 0
local prefix = string.sub(clock, 1, -6)
local topics, topic_keys, topic_count = { false }, { false, false }, 0
local keys, key_count
local topic, state, max_events, age
for at = HEAD + 1, argc, WIDTH do
  if ARGV[at + 1] ~= max_events then
    max_events = ARGV[at + 1]
    if not find(max_events, "^%d+$") or #max_events > 15 or max_events + 0 < 1 then
      return refuse("max_events", "must be a number from 1")
    end
  end
  if ARGV[at + 2] ~= age then
    age = ARGV[at + 2]
    if not find(age, "^%d+$") or #age > 15 then
      return refuse("age_ms", "must be a number from 0")
    end
  end
  if ARGV[at] ~= topic then
    topic = ARGV[at]
    if topic == "" then
      return refuse("topic", "must not be empty")
    end
    state = topics[topic]
    if not state then
      topic_count = topic_count + 1
      state = {
        key = prefix .. "topic:" .. topic,
        tail_key = prefix .. "tail:" .. topic,
        max_events = max_events,
        age = age,
        tail = false, -- the id of its last event
        tail_ms = 0,
        last = false, -- the place in ARGV of the last event that is published
      }
      topics[topic], topics[topic_count] = state, state
      topic_keys[2 * topic_count - 1], topic_keys[2 * topic_count] = state.tail_key, state.key
    end
  end
  state.max_events, state.age = max_events, age
  local key, event, comment, retry = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
  if key ~= "" then
    if find(key, "[%z\r\n]") then
      return refuse("key", "must not contain CR, LF or NUL")
    end
    if not keys then
      keys, key_count = {}, 0
    end
    key_count = key_count + 1
    keys[key_count] = key
  end
  if event ~= "" and find(event, "[\r\n]") then
    return refuse("event", "must not contain CR or LF")
  end
  if comment ~= "" and find(comment, "\r", 1, true) then
    return refuse("comment", "must not contain CR; LF ends a line")
  end
  if retry ~= "" and (not find(retry, "^%d+$") or #retry > 15 or retry + 0 > MAX_RETRY) then
    return refuse("retry", "must be digits, at most 2147483647")
  end
  if find(ARGV[at + 7], "\r", 1, true) then
    return refuse("data", "must not contain CR; LF ends a line")
  end
end

-- 2. What is known: the clock, keys that were used, and each topic's last event.

local time = call("TIME")
local now = time[1] * 1000 + floor(time[2] / 1000)
local held = call("HMGET", clock, "last", "born", "keys", "batches")
local last, born, keys_told, batches_told = held[1], held[2], held[3], held[4]
local ms, seq
if last then
  ms, seq = match(last, "^(%d+)-(%d+)$")
  ms, seq = ms + 0, seq + 0
else
  ms, seq = now, 0
  last = format("%.0f-0", now)
end
born = born or last
local oldest_kept = (now > ms and now or ms) - window

local batches_key = prefix .. "batches"
if batch_key ~= "" then
  local value = call("HGET", batches_key, batch_key) or call("HGET", batches_key .. ":old", batch_key)
  if value and match(value, "^%d+") + 0 >= oldest_kept then
    local reply, size = {}, 0
    for id, duplicate in string.gmatch(value, "([^:,]+):(%d)") do
      reply[size + 1], reply[size + 2] = id, duplicate + 0
      size = size + 2
    end
    if size / 2 ~= (argc - HEAD) / WIDTH then
      return refuse("batch_key", format("was used for a batch of %d", size / 2))
    end
    -- For a caller that waits for replicas: WAIT is about the last write of its connection, and without one it would be
    -- content with replicas that never got what was published before.
    call("HSET", clock, "last", last, "born", born)
    return reply
  end
end
local known = keys and recall(prefix .. "keys", keys, key_count, CHUNK, oldest_kept)

-- Where the clock was lost but a topic was not, ids go on above all that a topic of this call has. The streams (of which
-- MGET says nothing) are named as well since a Cluster that is just moving them refuses then, before anything is written.
for from = 1, 2 * topic_count, CHUNK do
  local upto = math.min(from + CHUNK - 1, 2 * topic_count)
  local values = call("MGET", unpack(topic_keys, from, upto))
  for i = from, upto, 2 do
    local tail = values[i - from + 1]
    if tail then
      local tail_ms, tail_seq = match(tail, "^(%d+)-(%d+)$")
      tail_ms, tail_seq = tail_ms + 0, tail_seq + 0
      state = topics[(i + 1) / 2]
      state.tail, state.tail_ms = tail, tail_ms
      if tail_ms > ms or (tail_ms == ms and tail_seq > seq) then
        ms, seq = tail_ms, tail_seq
      end
    end
  end
end

-- 3. Ids.

if now > ms then
  ms, seq = now, -1
end
local ms_text = format("%.0f-", ms)
local reply, size = { false, 0 }, 0
local fields, field_count
for at = HEAD + 1, argc, WIDTH do
  local key = ARGV[at + 3]
  local id = key ~= "" and known[key]
  if id then
    reply[size + 1], reply[size + 2] = id, 1
  else
    seq = seq + 1
    if seq == SEQUENCES then
      ms, seq = ms + 1, 0
      ms_text = format("%.0f-", ms)
    end
    id = ms_text .. seq
    last = id
    topics[ARGV[at]].last = at
    reply[size + 1], reply[size + 2] = id, 0
    if key ~= "" then
      known[key] = id
      if not fields then
        fields, field_count = {}, 0
      end
      fields[field_count + 1], fields[field_count + 2] = key, id
      field_count = field_count + 2
    end
  end
  size = size + 2
end

-- 4. Writing. The clock goes first: whatever fails after it, no id is given twice.

-- Keys of batches are apart: there may be one for each call, and those must not push out the keys that callers chose.
local new_batches, new_keys
if batch_key ~= "" then
  batches_told, new_batches = rotate(clock, "batches", batches_key, batches_told, 1, now, window, max_keys)
end
if fields then
  keys_told, new_keys = rotate(clock, "keys", prefix .. "keys", keys_told, field_count / 2, now, window, max_keys)
end
call("HSET", clock, "last", last, "born", born, "keys", keys_told or "0 0", "batches", batches_told or "0 0")

local messages, message_count, parts, part_count, bytes = { false, false }, 0, { false, false }, 0, 0
topic, state = nil, nil
for at = HEAD + 1, argc, WIDTH do
  local i = (at - HEAD - 1) / 4 + 1
  if reply[i + 1] == 0 then
    if ARGV[at] ~= topic or bytes >= MESSAGE_BYTES then
      if part_count > 0 then
        messages[message_count + 1], messages[message_count + 2] = topic, concat(parts, "", 1, part_count)
        message_count, part_count, bytes = message_count + 2, 0, 0
      end
      topic = ARGV[at]
      state = topics[topic]
    end
    local id, before = reply[i], state.tail
    -- Who listens has heard all there was since the feed was born. An estimate would look like something missing.
    local told = before or born
    if not before then
      -- What the topic may have had expired when it was older than `age`, so nothing after that can be missing.
      local floor_ms = match(id, "^%d+") - state.age
      before = (state.age == "0" or floor_ms < match(born, "^%d+") + 0) and born or format("%.0f-0", floor_ms)
    end
    local event, comment, retry, data = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
    if event == "" and comment == "" and retry == "" then
      if at == state.last then
        call("XADD", state.key, "MAXLEN", "~", state.max_events, id, "before", before, "data", data)
      else
        call("XADD", state.key, id, "before", before, "data", data)
      end
      parts[part_count + 1] = id .. " " .. told .. " - - - " .. #data .. "\n"
      bytes = bytes + #data
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
      call("XADD", state.key, "MAXLEN", "~", state.max_events, id, unpack(entry))
      parts[part_count + 1] = id .. " " .. told .. " " .. (event == "" and "-" or #event) .. " "
        .. (comment == "" and "-" or #comment) .. " " .. (retry == "" and "-" or retry) .. " " .. #data .. "\n"
        .. event .. comment
      bytes = bytes + #data + #event + #comment
    end
    parts[part_count + 2] = data
    part_count = part_count + 2
    state.tail = id
  end
end
if part_count > 0 then
  messages[message_count + 1], messages[message_count + 2] = topic, concat(parts, "", 1, part_count)
  message_count = message_count + 2
end

for i = 1, topic_count do
  state = topics[i]
  if state.last then
    local age = state.age + 0
    if age > 0 then
      local step = age / SWEEPS
      if floor(ms / step) ~= floor(state.tail_ms / step) and ms > age then
        call("XTRIM", state.key, "MINID", "~", format("%.0f-0", ms - age))
      end
      -- By the id's own time: a clock that was set back must not let an event expire before `age` has passed.
      local at = format("%.0f", ms + age)
      call("PEXPIREAT", state.key, at)
      call("SET", state.tail_key, state.tail, "PXAT", at)
    else
      call("PERSIST", state.key)
      call("SET", state.tail_key, state.tail)
    end
  end
end

-- After the events: a key that is known vouches for an event that is stored. Nothing is added to a generation older than
-- the window, so twice the window outlives all that is in it.
if batch_key ~= "" then
  local answer = { false }
  for i = 1, size, 2 do
    answer[(i + 1) / 2] = reply[i] .. ":" .. reply[i + 1]
  end
  call("HSET", batches_key, batch_key, concat(answer, ","))
  if new_batches then
    call("PEXPIRE", batches_key, format("%.0f", 2 * window))
  end
end
if fields then
  for from = 1, field_count, CHUNK do
    call("HSET", prefix .. "keys", unpack(fields, from, math.min(from + CHUNK - 1, field_count)))
  end
  if new_keys then
    call("PEXPIRE", prefix .. "keys", format("%.0f", 2 * window))
  end
end

for i = 1, message_count, 2 do
  call("SPUBLISH", prefix .. "live:" .. messages[i], messages[i + 1])
end
return reply
