#!lua flags=allow-oom
-- Takes, renews or gives back a lease: at most one owner at a time, and a note from each owner to the next.
--
-- KEYS[1]  {namespace}:lease:<name>
-- ARGV     owner, milliseconds (0 gives it back), 0|1 (whether there is a note), note
-- Returns  0|1 (whether `owner` has it now), the note that is kept (or nil)
local call = redis.call
local key = KEYS[1]
local owner, milliseconds = ARGV[1], tonumber(ARGV[2])
if #KEYS ~= 1 or #ARGV ~= 4 or owner == "" or not milliseconds or milliseconds < 0 then
  return redis.error_reply("SSE arguments: one key; owner, milliseconds, 0 or 1, note")
end
local time = call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = call("HMGET", key, "owner", "until", "note")
local other, expires, note = state[1], tonumber(state[2]) or 0, state[3]
local is_own = other == owner
if milliseconds == 0 then
  if is_own and note then
    call("HSET", key, "until", "0")
  elseif is_own then
    -- There may be a lease for every run there ever was.
    call("DEL", key)
  end
  return { 0, note }
end
if other and not is_own and expires > now then
  return { 0, note }
end
-- Who takes it over from another has not read the other's note yet, and must not destroy it.
if ARGV[3] == "1" and (is_own or not note) then
  note = ARGV[4]
  call("HSET", key, "note", note)
end
call("HSET", key, "owner", owner, "until", string.format("%.0f", now + milliseconds))
-- Long after the last owner has gone its note is still there, but not for ever. Without one there is nothing to keep.
call("PEXPIRE", key, note and "86400000" or string.format("%.0f", milliseconds))
return { 1, note }
