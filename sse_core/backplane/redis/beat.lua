#!lua flags=allow-oom
-- Moves a namespace's clock to the present and tells all processes; makes the namespace where it is new.
--
-- KEYS[1]  {namespace}:clock
-- ARGV     min_interval_ms: do nothing if a beat was published less than that ago (0: never)
-- Returns  last, born, 0|1 (whether a beat was published)
local call = redis.call
local clock = KEYS[1]
if #KEYS ~= 1 or not string.find(clock, "^{[%w_.-]+}:clock$") then
  return redis.error_reply("SSE arguments: the one key is {namespace}:clock")
end
local interval = tonumber(ARGV[1])
if #ARGV ~= 1 or not interval or interval < 0 then
  return redis.error_reply("SSE arguments: one, the least interval in milliseconds")
end

local time = call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = call("HMGET", clock, "last", "born", "beat")
local last, born, beat = state[1], state[2], tonumber(state[3])
if last and born and beat then
  local since = now - beat
  -- Below 0 the clock was set back, and nobody may be kept waiting until it has caught up.
  if since >= 0 and since < interval then
    return { last, born, 0 }
  end
end
if not last or now > string.match(last, "^%d+") + 0 then
  last = string.format("%.0f-0", now)
end
born = born or last
call("HSET", clock, "last", last, "born", born, "beat", string.format("%.0f", now))
call("SPUBLISH", string.sub(clock, 1, -6) .. "beat", last .. " " .. born)
return { last, born, 1 }
