-- wrk script: sends the header fields of a file in turn. Each line of FIELDS holds one value; FIELD names the field.
-- LOAD_PAUSE: so many milliseconds pass on average between an answer and the connection's next request.
local values = {}
local position = 0
local name = os.getenv("LOAD_FIELD")
local once = os.getenv("LOAD_ONCE") == "1"

local pause = tonumber(os.getenv("LOAD_PAUSE") or "0")
if pause > 0 then
  -- Spread, so that connections do not ask all at once.
  function delay() return math.random(math.floor(pause / 2), math.ceil(pause * 3 / 2)) end
end

function init(args)
  for line in io.lines(os.getenv("LOAD_VALUES")) do values[#values + 1] = line end
end

function request()
  position = position + 1
  if position > #values then
    if once then wrk.thread:stop() position = #values else position = 1 end
  end
  return wrk.format("GET", nil, { [name] = values[position] })
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
  io.write(string.format("BYTES %d\n", summary.bytes))
end
